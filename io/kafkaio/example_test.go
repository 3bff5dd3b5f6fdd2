// SPDX-License-Identifier: Apache-2.0

package kafkaio_test

import (
	"fmt"

	"github.com/hornbeam-dev/hornbeam/io/kafkaio"
)

func ExampleParseURL() {
	cfg, err := kafkaio.ParseURL("kafka://127.0.0.1:9092/payments?from=earliest&to=offset:1000")
	fmt.Println(cfg.Brokers, cfg.Topic, cfg.From.Kind, cfg.To.Offset, err)

	_, err = kafkaio.ParseURL("kafka://127.0.0.1:9092/payments?from=offset:-1")
	fmt.Println(err)
	// Output:
	// [127.0.0.1:9092] payments earliest 1000 <nil>
	// kafkaio: "kafka://127.0.0.1:9092/payments?from=offset:-1": from: offset "-1" is not a number from 0; want kafka://HOST:PORT[,HOST:PORT]/TOPIC?from=earliest|latest|offset:N|time:RFC3339, and the same for to
}
