//go:build deps

package deps

import (
	_ "cloud.google.com/go/storage"
	_ "github.com/aws/aws-sdk-go-v2"
	_ "github.com/aws/aws-sdk-go-v2/config"
	_ "github.com/aws/aws-sdk-go-v2/credentials"
	_ "github.com/aws/aws-sdk-go-v2/service/kinesis"
	_ "github.com/aws/aws-sdk-go-v2/service/s3"
	_ "github.com/fsouza/fake-gcs-server/fakestorage"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/parquet-go/parquet-go"
	_ "github.com/twmb/avro"
	_ "github.com/twmb/franz-go/pkg/sr"
	_ "google.golang.org/api/dataflow/v1b3"
	_ "google.golang.org/grpc"
)
