// SPDX-License-Identifier: Apache-2.0

package s3io

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/hornbeam-dev/hornbeam/io/blob/attempt"
)

// What it means that there are no credentials: at first, and when those that there were have expired.
func TestCredentials(t *testing.T) {
	const none, expired = "no credentials were found", "the credentials have expired"
	outage := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	broken := &smithy.GenericAPIError{Code: "Oops", Fault: smithy.FaultServer}
	denied := &smithy.GenericAPIError{Code: "AccessDenied", Fault: smithy.FaultClient}
	tests := []struct {
		name    string
		answers []error
		want    attempt.Outcome
		hint    string
	}{
		{"none", []error{errors.New("no role")}, attempt.Permanent, none},
		{"nobody to ask", []error{outage}, attempt.Permanent, none},
		{"the network breaks later", []error{nil, outage}, attempt.Transient, expired},
		{"the service breaks later", []error{nil, broken}, attempt.Transient, expired},
		{"the role is taken away later", []error{nil, denied}, attempt.Permanent, expired},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := 0
			p := &provider{CredentialsProvider: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				n++
				return aws.Credentials{}, test.answers[n-1]
			})}
			var err error
			for range test.answers {
				_, err = p.Retrieve(t.Context())
			}
			err = fmt.Errorf("of the client: %w", err)
			if got := classify(err); got != test.want {
				t.Errorf("got outcome %v of %v, want %v", got, err, test.want)
			}
			if got := hint(err); !strings.HasPrefix(got, test.hint) {
				t.Errorf("got hint %q, want %q", got, test.hint)
			}
		})
	}
}
