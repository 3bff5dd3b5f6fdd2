// SPDX-License-Identifier: Apache-2.0

package kv_test

import (
	"testing"

	"github.com/hornbeam-dev/hornbeam/runner/internal/kv"
	"github.com/hornbeam-dev/hornbeam/runner/internal/kv/kvtest"
)

func TestMem(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Table { return kv.NewMem() })
}
