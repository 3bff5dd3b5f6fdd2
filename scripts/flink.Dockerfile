# SPDX-License-Identifier: Apache-2.0
#
# A TaskManager that can run the pipelines: Flink's image with the programs at /opt/hornbeam. The
# TaskManager starts them itself (--environment_type=PROCESS), so they need no container of their own.
#
#   docker build -f scripts/flink.Dockerfile -t hornbeam-taskmanager .
#
# It runs as Flink's own image does, with the command taskmanager. Submit with the path in the image:
#
#   ./frauddetection --runner=flink --endpoint=JOB-SERVER:8099 --worker_path=/opt/hornbeam/frauddetection …
#
# Both must be built from the same source: functions travel by their names.
ARG FLINK_VERSION=1.19.3
ARG GO_VERSION=1.26

FROM golang:${GO_VERSION} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# Without cgo they run on any Linux, whatever its C library.
RUN CGO_ENABLED=0 go build -ldflags='-s -w' -o /opt/hornbeam/ ./pipelines/frauddetection ./pipelines/sessionanalytics ./pipelines/unitconversion

FROM flink:${FLINK_VERSION}-java17
COPY --from=build /opt/hornbeam/ /opt/hornbeam/
