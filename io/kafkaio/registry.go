// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
)

// checkRegistry refuses URLs with a password in them, without repeating it.
func checkRegistry(text, auth string) error {
	if text == "" {
		if auth != "" {
			return errors.New("RegistryAuth without Registry")
		}
		return nil
	}
	if strings.Contains(text, "@") {
		return errors.New("registry: the URL holds a user or password; give registry_auth=env:NAME or file:PATH, which hold USER:PASSWORD on the worker")
	}
	if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("registry is not an http or https URL")
	}
	if auth != "" && !isReference(auth) {
		return errors.New("registry_auth is written out; name where the worker finds it: registry_auth=env:NAME or registry_auth=file:PATH, which hold USER:PASSWORD")
	}
	return nil
}

// registry decodes values by the schemas they name. It is used by one DoFn at a time.
type registry struct {
	url     string
	client  *sr.Client
	schemas map[int]*schema
}

// schema is one schema; without avro it is JSON, and with bad it decodes nothing.
type schema struct {
	avro *avro.Schema
	code string
	bad  error
}

func newRegistry(url, auth string) (*registry, error) {
	opts := []sr.ClientOpt{sr.URLs(url)}
	if auth != "" {
		secret, err := resolve(auth)
		if err != nil {
			return nil, fmt.Errorf("kafkaio.Read: registry_auth: %w", err)
		}
		user, password, ok := strings.Cut(strings.TrimRight(string(secret), "\r\n"), ":")
		if !ok {
			return nil, fmt.Errorf("kafkaio.Read: %s does not hold USER:PASSWORD", auth)
		}
		opts = append(opts, sr.BasicAuth(user, password))
	}
	client, err := sr.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("kafkaio.Read: registry %s: %w", url, err)
	}
	return &registry{url: url, client: client, schemas: map[int]*schema{}}, nil
}

// decode returns the record with its value as JSON, or the dead letter it becomes. An error is the registry's
// and may pass.
func (r *registry) decode(ctx context.Context, rec Record) (Record, *DeadLetter, error) {
	bad := func(code, format string, args ...any) (Record, *DeadLetter, error) {
		return rec, &DeadLetter{Code: code, Error: fmt.Sprintf(format, args...), Record: rec}, nil
	}
	if len(rec.Value) < 5 || rec.Value[0] != 0 {
		return bad(CodeNoSchema, "the value of %d bytes does not begin with a schema id", len(rec.Value))
	}
	id, body := binary.BigEndian.Uint32(rec.Value[1:5]), rec.Value[5:]
	s, err := r.schema(ctx, int(id))
	if err != nil {
		return rec, nil, err
	}
	rec.Schema = int32(id)
	switch {
	case s.bad != nil:
		return bad(s.code, "schema %d: %v", id, s.bad)
	case s.avro == nil && !json.Valid(body):
		return bad(CodeBadJSON, "schema %d: the value is not JSON", id)
	case s.avro == nil:
		rec.Value = body
		return rec, nil, nil
	}
	var value any
	rest, err := s.avro.Decode(body, &value)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes are left over", len(rest))
	}
	var text []byte
	if err == nil {
		text, err = s.avro.EncodeJSON(value)
	}
	if err == nil {
		text, err = canonical(text)
	}
	if err != nil {
		return bad(CodeBadAvro, "schema %d: %v", id, err)
	}
	rec.Value = text
	return rec, nil, nil
}

// canonical sorts the names in JSON, which the encoder writes in any order: a record that is read again must have
// the same bytes.
func canonical(text []byte) ([]byte, error) {
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	var value any
	if err := in.Decode(&value); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(value)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// schema looks a schema up. A schema never changes, so it is asked for once; one that is not there may come.
func (r *registry) schema(ctx context.Context, id int) (*schema, error) {
	if s := r.schemas[id]; s != nil {
		return s, nil
	}
	found, err := r.client.SchemaByID(ctx, id)
	var answer *sr.ResponseError
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return &schema{code: CodeUnknownSchema, bad: errors.New("the registry does not have it")}, nil
	}
	if err != nil {
		return nil, r.failure(err)
	}
	s := &schema{}
	switch found.Type {
	case sr.TypeJSON:
	case sr.TypeAvro:
		s.avro, err = r.parse(ctx, &avro.SchemaCache{}, found)
		if errors.As(err, &answer) {
			return nil, r.failure(err)
		}
		if err != nil {
			s.code, s.bad = CodeBadSchema, err
		}
	default:
		s.code, s.bad = CodeBadSchema, fmt.Errorf("%v schemas are not supported, only Avro and JSON", found.Type)
	}
	r.schemas[id] = s
	return s, nil
}

// parse reads an Avro schema after those it refers to.
func (r *registry) parse(ctx context.Context, known *avro.SchemaCache, s sr.Schema) (*avro.Schema, error) {
	for _, ref := range s.References {
		at, err := r.client.SchemaByVersion(ctx, ref.Subject, ref.Version)
		if err != nil {
			return nil, err
		}
		if _, err := r.parse(ctx, known, at.Schema); err != nil {
			return nil, fmt.Errorf("reference %s: %w", ref.Name, err)
		}
	}
	return known.Parse(s.Schema)
}

// failure makes what the registry refuses for good an error that is not tried again.
func (r *registry) failure(err error) error {
	var answer *sr.ResponseError
	if errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden) {
		return permanentError{fmt.Errorf("registry %s does not let us in (status %d); set registry_auth", r.url, answer.StatusCode)}
	}
	return fmt.Errorf("registry %s: %w", r.url, err)
}
