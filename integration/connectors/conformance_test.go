// SPDX-License-Identifier: Apache-2.0

package connectors

import (
	"strconv"
	"testing"

	"github.com/hornbeam-dev/hornbeam/integration/connectors/gcstest"
	"github.com/hornbeam-dev/hornbeam/integration/connectors/s3test"
	"github.com/hornbeam-dev/hornbeam/io/blob"
	"github.com/hornbeam-dev/hornbeam/io/blob/blobtest"
)

func TestS3Conformance(t *testing.T) {
	srv, n := s3test.Start(t), 0
	blobtest.Run(t, func(t *testing.T) blob.Store {
		n++
		return openStore(t, srv.URL("conformance"+strconv.Itoa(n), ""))
	})
}

func TestGCSConformance(t *testing.T) {
	srv, n := gcstest.Start(t), 0
	blobtest.Run(t, func(t *testing.T) blob.Store {
		n++
		return openStore(t, srv.URL("conformance"+strconv.Itoa(n)))
	})
}
