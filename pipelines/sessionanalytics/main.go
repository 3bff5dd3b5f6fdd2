// SPDX-License-Identifier: Apache-2.0

// Command sessionanalytics finds the sessions of each customer: runs of transactions with less
// than a gap between them. It reads the built-in generator of card transactions, files or a Kafka
// topic, and writes sessions and dead letters as JSON lines.
package main

import "github.com/hornbeam-dev/hornbeam/runner/launch"

func main() { launch.Main(program) }
