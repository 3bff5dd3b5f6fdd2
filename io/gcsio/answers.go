// SPDX-License-Identifier: Apache-2.0

package gcsio

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
)

// classify says what an error of the client means. The first of these decides:
//
//	our own: not there, changed, conflict, no bucket     permanent
//	a local file that cannot be read                     permanent
//	no chunk of an upload                                unknown
//	status 408, 429                                      transient
//	status 409, 410, 412, 5xx without 501                unknown
//	any other status of an error                         permanent
//	a token that is refused                              permanent
//	a host that has no address                           permanent
//	a connection that was not made                       transient
//	a connection that broke, a timeout                   unknown
//	anything else                                        permanent
//
// 410 says that the session of an upload is gone. Within an upload in chunks the client repeats requests by
// itself before; that is harmless, since the upload has a condition.
func classify(err error) attempt.Outcome {
	var file *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, blob.ErrChanged), errors.Is(err, blob.ErrConflict),
		errors.Is(err, errNoBucket), errors.As(err, &file):
		return attempt.Permanent
	case errors.Is(err, errNoChunk):
		return attempt.Unknown
	}
	switch status := status(err); {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return attempt.Transient
	case status == http.StatusConflict, status == http.StatusGone, status == http.StatusPreconditionFailed,
		status >= 500 && status != http.StatusNotImplemented:
		return attempt.Unknown
	case status >= 300:
		return attempt.Permanent
	}
	return network(err)
}

// network judges an error without an answer.
func network(err error) attempt.Outcome {
	var dns *net.DNSError
	var dial *net.OpError
	var any net.Error
	switch {
	case isRefusedToken(err), errors.As(err, &dns) && dns.IsNotFound:
		return attempt.Permanent
	case errors.As(err, &dial) && dial.Op == "dial":
		return attempt.Transient
	case errors.As(err, &any), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return attempt.Unknown
	}
	return attempt.Permanent
}

// isRefusedToken tells whether there is no request because there is no token for it. The error of
// the library that gets tokens knows whether it is temporary, and is not one of the network.
func isRefusedToken(err error) bool {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var network net.Error
	var token interface{ Temporary() bool }
	return !errors.As(err, &network) && errors.As(err, &token) && !token.Temporary()
}

// hint says what may be done about an error; empty if there is nothing to add.
func hint(err error) string {
	switch status := status(err); {
	case errors.Is(err, errNoBucket):
		return "make the bucket, or correct its name in the URL"
	case status == http.StatusUnauthorized, status == 0 && isRefusedToken(err):
		return loginHint
	case status == http.StatusForbidden:
		return "the account lacks a permission on the bucket; needed are storage.objects.create, storage.objects.get, storage.objects.list"
	}
	return ""
}

// status is the status of HTTP in an error; 0 if there was no answer.
func status(err error) int {
	var e *googleapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// missing tells an object that is not there from a bucket that is not there; other errors stay as they are.
func missing(err error) error {
	var e *googleapi.Error
	switch {
	case err == nil || !errors.Is(err, storage.ErrObjectNotExist) && !errors.Is(err, storage.ErrBucketNotExist):
		return err
	case errors.Is(err, storage.ErrBucketNotExist), errors.As(err, &e) && strings.Contains(e.Message+e.Body, "bucket does not exist"):
		return fmt.Errorf("%w: %w", errNoBucket, err)
	}
	return fs.ErrNotExist
}
