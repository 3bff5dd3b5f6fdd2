// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
)

// answer is what a code of the service means.
type answer struct {
	outcome attempt.Outcome
	hint    string // What to do.
}

const (
	keysHint   = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or the profile or role in use"
	regionHint = "the bucket is in another region or at another endpoint: set AWS_REGION or the option region"
	bytesHint  = "the bytes that arrived are not those of the checksum: the local disk or the way to the service changed them"
	denyHint   = "the credentials lack a permission; needed are s3:PutObject, s3:GetObject, s3:ListBucket, and for objects above 8 MiB s3:AbortMultipartUpload, s3:ListBucketMultipartUploads, s3:ListMultipartUploadParts; without s3:ListBucket an object that is missing answers the same"
)

// answers is what the codes of the service mean. A code that is not here is judged by the status of
// HTTP, see classify.
var answers = map[string]answer{
	// Refused before anything was done, by a service that is busy or did not get the whole request.
	"SlowDown":                               {attempt.Transient, ""},
	"RequestTimeout":                         {attempt.Transient, ""},
	"Throttling":                             {attempt.Transient, ""},
	"ThrottlingException":                    {attempt.Transient, ""},
	"TooManyRequests":                        {attempt.Transient, ""},
	"RequestThrottled":                       {attempt.Transient, ""},
	"BandwidthLimitExceeded":                 {attempt.Transient, ""},
	"RequestLimitExceeded":                   {attempt.Transient, ""},
	"ProvisionedThroughputExceededException": {attempt.Transient, ""},

	// The state of the key or of the upload decides what they mean.
	"InternalError":              {attempt.Unknown, ""},
	"ServiceUnavailable":         {attempt.Unknown, ""},
	"PreconditionFailed":         {attempt.Unknown, ""},
	"ConditionalRequestConflict": {attempt.Unknown, ""},
	"OperationAborted":           {attempt.Unknown, ""},
	"NoSuchUpload":               {attempt.Unknown, ""},

	"AccessDenied":                       {attempt.Permanent, denyHint},
	"Forbidden":                          {attempt.Permanent, keysHint + "; or " + denyHint}, // Of a HEAD, which says no more.
	"AllAccessDisabled":                  {attempt.Permanent, denyHint},
	"InvalidAccessKeyId":                 {attempt.Permanent, keysHint},
	"SignatureDoesNotMatch":              {attempt.Permanent, keysHint},
	"ExpiredToken":                       {attempt.Permanent, keysHint},
	"InvalidToken":                       {attempt.Permanent, keysHint},
	"NoSuchBucket":                       {attempt.Permanent, "make the bucket, or correct its name in the URL"},
	"InvalidBucketName":                  {attempt.Permanent, "correct the name of the bucket in the URL"},
	"PermanentRedirect":                  {attempt.Permanent, regionHint},
	"MovedPermanently":                   {attempt.Permanent, regionHint},
	"AuthorizationHeaderMalformed":       {attempt.Permanent, regionHint},
	"IllegalLocationConstraintException": {attempt.Permanent, regionHint},
	"RequestTimeTooSkewed":               {attempt.Permanent, "the clock of this machine is wrong"},
	"NotImplemented":                     {attempt.Permanent, "the server does not know a header that is needed; it must support If-None-Match: * for PutObject and CompleteMultipartUpload"},
	"BadDigest":                          {attempt.Permanent, bytesHint},
	"InvalidDigest":                      {attempt.Permanent, bytesHint},
	"XAmzContentChecksumMismatch":        {attempt.Permanent, bytesHint},
	"XAmzContentSHA256Mismatch":          {attempt.Permanent, bytesHint},
}

// errRemains says that an upload is still there after it was aborted.
var errRemains = errors.New("parts are still there after the upload was aborted")

// lostUpload says that a multipart upload cannot become an object any more.
type lostUpload struct{ error }

func (e lostUpload) Unwrap() error { return e.error }

// credentialsError says that there are no credentials.
type credentialsError struct {
	error
	renewal bool // There were some before.
}

func (e *credentialsError) Unwrap() error { return e.error }

// passing tells whether there may be credentials when they are asked for again: whoever gives them has done so before,
// and is at fault or cannot be reached.
func (e *credentialsError) passing() bool {
	var api smithy.APIError
	return e.renewal && (classify(e.error) != attempt.Permanent || errors.As(e.error, &api) && api.ErrorFault() == smithy.FaultServer)
}

// provider marks the errors of another one.
type provider struct {
	aws.CredentialsProvider
	worked atomic.Bool
}

func (p *provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := p.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return c, &credentialsError{err, p.worked.Load()}
	}
	p.worked.Store(true)
	return c, nil
}

// classify says what an error of the client means. The first of these decides:
//
//	our own: not there, changed, conflict, lost upload   permanent
//	an upload that is there after its abort              transient
//	credentials that cannot be renewed for now           transient
//	no credentials; a local file that cannot be read     permanent
//	a code of the table answers                          as it says
//	status 408, 429                                      transient
//	status 409, 412, 5xx without 501                     unknown
//	any other status of an error                         permanent
//	an answer that broke off or cannot be understood     unknown
//	a host that has no address                           permanent
//	a connection that was not made                       transient
//	a connection that broke, a timeout                   unknown
//	anything else                                        permanent
func classify(err error) attempt.Outcome {
	var lost lostUpload
	var credentials *credentialsError
	var file *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, blob.ErrChanged), errors.Is(err, blob.ErrConflict), errors.As(err, &lost):
		return attempt.Permanent
	case errors.Is(err, errRemains), errors.As(err, &credentials) && credentials.passing():
		return attempt.Transient
	case errors.As(err, &credentials), errors.As(err, &file):
		return attempt.Permanent
	}
	if a, ok := answers[code(err)]; ok {
		return a.outcome
	}
	switch status := status(err); {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return attempt.Transient
	case status == http.StatusConflict, status == http.StatusPreconditionFailed, status >= 500 && status != http.StatusNotImplemented:
		return attempt.Unknown
	case status >= 300:
		return attempt.Permanent
	case status > 0:
		return attempt.Unknown
	}
	return network(err)
}

// classifyUpload says what an error of a whole upload means, whose requests have been classified: a lost
// one may have become an object, or another one has.
func classifyUpload(err error) attempt.Outcome {
	var lost lostUpload
	if errors.As(err, &lost) {
		return attempt.Unknown
	}
	return attempt.Permanent
}

// network judges an error without an answer.
func network(err error) attempt.Outcome {
	var dns *net.DNSError
	var dial *net.OpError
	var send *smithyhttp.RequestSendError
	var any net.Error
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return attempt.Permanent
	case errors.As(err, &dial) && dial.Op == "dial":
		return attempt.Transient
	case errors.As(err, &send), errors.As(err, &any), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return attempt.Unknown
	}
	return attempt.Permanent
}

// hint says what may be done about an error; empty if there is nothing to add.
func hint(err error) string {
	var credentials *credentialsError
	var dns *net.DNSError
	switch {
	case errors.As(err, &credentials) && credentials.renewal:
		return "the credentials have expired and there are no new ones: " + keysHint
	case errors.As(err, &credentials):
		return "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "check the region and the endpoint"
	}
	return answers[code(err)].hint
}

// code is the service's name of an error; empty if it has none.
func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// status is the status of HTTP in an error; 0 if there was no answer.
func status(err error) int {
	var e *smithyhttp.ResponseError
	if errors.As(err, &e) {
		return e.HTTPStatusCode()
	}
	return 0
}
