// SPDX-License-Identifier: Apache-2.0

// Command unitconversion converts the readings of thermometers to degrees Celsius, exactly, and
// sums them up by device and hour. It reads a built-in generator, files or a Kafka topic, and
// writes measurements, aggregates and dead letters as JSON lines.
package main

import "github.com/hornbeam-dev/hornbeam/runner/launch"

func main() { launch.Main(program) }
