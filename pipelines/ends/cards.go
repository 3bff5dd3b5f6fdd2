// SPDX-License-Identifier: Apache-2.0

package ends

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/hornbeam-dev/hornbeam/fixtures/cards"
	"github.com/hornbeam-dev/hornbeam/io/kinesisio"
)

func init() {
	register.Function1x2(cardTime)
	register.Function1x2(cardRecordTime)
}

// CardFlags adds the flags of the generator of card transactions, whose names are in CardFlagNames,
// and returns what they will say.
func CardFlags() *cards.ReadConfig {
	cfg := &cards.ReadConfig{Seed: 1}
	flag.IntVar(&cfg.Days, "days", 0, "Of the generator: only the first days; 0 is all 183.")
	flag.DurationVar(&cfg.Shuffle, "shuffle", 0, "Of the generator: transactions arrive out of order, by at most this much.")
	flag.Float64Var(&cfg.Rate, "rate", 0, "Of the generator: transactions a second; 0 is as fast as they are taken.")
	return cfg
}

// CardFlagNames are the names of the flags of CardFlags.
var CardFlagNames = []string{"days", "shuffle", "rate"}

// Cards are card transactions that were read. Dead is also what is no transaction.
type Cards struct {
	Records
	Transactions beam.PCollection // PCollection<cards.Transaction>, with event times.
}

// ReadCards reads card transactions, as canonical CSV lines, from the input of e.
func ReadCards(s beam.Scope, e Ends, generator cards.ReadConfig) (Cards, error) {
	generator.Rest = e.Job.Pace.Rest
	if err := checkCards(generator); err != nil {
		return Cards{}, err
	}
	records, err := Read(s, e, Source{
		Generate:    func(s beam.Scope) beam.PCollection { return cards.ReadLines(s, generator) },
		FileTime:    cardTime,
		KinesisTime: cardRecordTime,
	})
	if err != nil {
		return Cards{}, err
	}
	parsed := cards.Parse(s, records.Lines)
	records.Dead = append(records.Dead, parsed.Dead)
	return Cards{Records: records, Transactions: parsed.Out}, nil
}

func checkCards(c cards.ReadConfig) error {
	var errs []error
	if c.Days < 0 {
		errs = append(errs, fmt.Errorf("--days=%d: give a number from 1, or 0 for all", c.Days))
	}
	if c.Shuffle < 0 {
		errs = append(errs, fmt.Errorf("--shuffle=%v: give a positive duration", c.Shuffle))
	}
	errs = append(errs, CheckRate(c.Rate))
	return errors.Join(errs...)
}

// CheckRate refuses what is no rate of records.
func CheckRate(rate float64) error {
	if !(rate >= 0 && rate <= 1e9) {
		return fmt.Errorf("--rate=%v: give a number of records a second, or 0 for no limit", rate)
	}
	return nil
}

// cardTime is Unknown for a line that is no transaction: parsing makes a dead letter of it.
func cardTime(line []byte) (time.Time, error) {
	t, err := cards.ParseCSV(line)
	if err != nil {
		return Unknown, nil
	}
	return t.Time(), nil
}

func cardRecordTime(r kinesisio.Record) (time.Time, error) { return cardTime(r.Data) }
