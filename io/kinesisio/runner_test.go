// SPDX-License-Identifier: Apache-2.0

package kinesisio

import _ "github.com/hornbeam-dev/hornbeam/runner" // Runs the pipelines of these tests.
