// SPDX-License-Identifier: Apache-2.0

// Command frauddetection marks suspicious card transactions: many within an hour, or a small
// amount that is followed by a large one. It reads the built-in generator of card transactions,
// files or a Kafka topic, and writes alerts and dead letters as JSON lines.
package main

import "github.com/hornbeam-dev/hornbeam/runner/launch"

func main() { launch.Main(program) }
