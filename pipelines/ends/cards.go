// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"flag"
	"fmt"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
)

func init() {
	register.Function1x2(cardTime)
	register.Function1x2(cardRecordTime)
}

// Cards is an input of card transactions.
type Cards struct {
	Input
	Days    int           // Of the generator; 0 means all.
	Shuffle time.Duration // Of the generator.
}

// CardFlags are the names of the flags that Register adds.
var CardFlags = append([]string{"days", "shuffle"}, InputFlags...)

// Register adds the flags of the input.
func (c *Cards) Register(flags *flag.FlagSet) {
	c.Input.Register(flags)
	flags.IntVar(&c.Days, "days", 0, "For the generator: only the first days of the stream, of 183; 0 means all.")
	flags.DurationVar(&c.Shuffle, "shuffle", 0,
		"For the generator: transactions arrive in another order, at most this far after later ones. Example: --shuffle=1h")
}

// ReadCards reads and parses transactions.
//
// Output: PCollection<cards.Transaction> with event times, and PCollections<dlq.BadRecord>.
func ReadCards(s beam.Scope, c Cards) (beam.PCollection, []beam.PCollection, error) {
	if c.Days < 0 || c.Shuffle < 0 {
		return beam.PCollection{}, nil, fmt.Errorf("--days %d and --shuffle %v: neither can be negative", c.Days, c.Shuffle)
	}
	lines, dead, err := Lines(s, c.Input, Format{
		Generate: func(s beam.Scope) beam.PCollection {
			return cards.ReadLines(s, cards.ReadConfig{Days: c.Days, Shuffle: c.Shuffle, Rate: c.Rate})
		},
		FileTime:  cardTime,
		KafkaTime: cardRecordTime,
	})
	if err != nil {
		return lines, nil, err
	}
	parsed := cards.Parse(s, lines)
	return parsed.Out, append(dead, parsed.Dead), nil
}

func cardTime(line []byte) (time.Time, error) {
	t, err := cards.ParseCSV(line)
	if err != nil {
		return Unknown, nil // Parse says what is wrong with it.
	}
	return t.Time(), nil
}

func cardRecordTime(r kafkaio.Record) (time.Time, error) { return cardTime(r.Value) }
