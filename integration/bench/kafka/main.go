// SPDX-License-Identifier: Apache-2.0

// Kafka counts the records of a topic by key and minute into another topic, exactly once: as a
// pipeline on Hornbeam, or as a loop that has only franz-go. scripts/bench runs both by turns.
//
//	kafka fill --brokers=HOST:PORT --n=2000000
//	kafka hornbeam --brokers=HOST:PORT --to=out-1 --state_dir=DIR
//	kafka plain --brokers=HOST:PORT --to=out-2
//	kafka lines --brokers=HOST:PORT --to=out-1
//
// The pipeline is in pipeline.go, the loop in plain.go, the topics in topic.go.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

var (
	brokers    = flag.String("brokers", "", "The brokers, HOST:PORT, separated by commas.")
	topic      = flag.String("topic", "in", "The topic that is filled and read.")
	to         = flag.String("to", "", "The topic that the counts go to, and that lines prints.")
	n          = flag.Int64("n", 2_000_000, "fill: how many records.")
	cpuProfile = flag.String("cpuprofile", "", "hornbeam: write a CPU profile to this file.")
)

func main() {
	commands := map[string]func() error{"fill": fill, "hornbeam": hornbeam, "plain": plain, "lines": printLines}
	var command func() error
	if len(os.Args) > 1 {
		command = commands[os.Args[1]]
	}
	if command == nil {
		fmt.Fprintln(os.Stderr, "usage: kafka fill|hornbeam|plain|lines FLAGS; scripts/bench -only kafka does it all")
		os.Exit(2)
	}
	os.Args = append(os.Args[:1], os.Args[2:]...)
	flag.Parse()
	if err := command(); err != nil {
		fmt.Fprintln(os.Stderr, "kafka:", err)
		os.Exit(1)
	}
}

func brokerList() []string { return strings.Split(*brokers, ",") }

// pane is what records are counted by.
type pane struct {
	minute int64 // In milliseconds since 1970, its beginning.
	key    string
}

func minuteOf(millis int64) int64 { return millis - millis%time.Minute.Milliseconds() }

// result is a count as it is written.
func (p pane) result(count int64) (key, value []byte) {
	return []byte(p.key), fmt.Appendf(nil, "%s %s", time.UnixMilli(p.minute).UTC().Format(time.RFC3339), strconv.FormatInt(count, 10))
}
