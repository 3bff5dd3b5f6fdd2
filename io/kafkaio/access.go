// SPDX-License-Identifier: Apache-2.0

package kafkaio

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Access says how to be let in by the brokers. It holds no secret, because it travels with the pipeline: a
// reference, env:NAME or file:PATH, names an environment variable or a file of the worker that does. The zero
// Access is a plain connection.
type Access struct {
	SASL     string // "", "plain", "scram-sha-256" or "scram-sha-512".
	User     string // The name itself, or a reference.
	Password string // A reference.

	TLS        bool
	CA         string // A reference to PEM certificates that are trusted instead of the system's.
	ClientCert string // A reference to a PEM certificate, for brokers that ask for one.
	ClientKey  string // A reference to its PEM key.
}

const (
	envPrefix  = "env:"
	filePrefix = "file:"
)

func isReference(text string) bool {
	for _, prefix := range []string{envPrefix, filePrefix} {
		if rest, ok := strings.CutPrefix(text, prefix); ok && rest != "" {
			return true
		}
	}
	return false
}

// check never repeats what should have been a reference: it may be the secret.
func (a Access) check() error {
	var errs []error
	for _, f := range []struct{ name, value string }{{"password", a.Password}, {"ca", a.CA}, {"cert", a.ClientCert}, {"key", a.ClientKey}} {
		if f.value != "" && !isReference(f.value) {
			errs = append(errs, fmt.Errorf("%s is written out; name where the worker finds it instead: %s=env:NAME, an environment variable, or %s=file:PATH, a file",
				f.name, f.name, f.name))
		}
	}
	switch a.SASL {
	case "":
		if a.User != "" || a.Password != "" {
			errs = append(errs, errors.New("a user or password without sasl: say sasl=plain, scram-sha-256 or scram-sha-512"))
		}
	case "plain", "scram-sha-256", "scram-sha-512":
		if a.User == "" || a.Password == "" {
			errs = append(errs, fmt.Errorf("sasl=%s needs user and password", a.SASL))
		}
	default:
		errs = append(errs, fmt.Errorf("sasl is %q: want plain, scram-sha-256 or scram-sha-512", a.SASL))
	}
	if !a.TLS && (a.CA != "" || a.ClientCert != "" || a.ClientKey != "") {
		errs = append(errs, errors.New("a certificate without tls: say tls=true"))
	}
	if (a.ClientCert == "") != (a.ClientKey == "") {
		errs = append(errs, errors.New("cert and key go together"))
	}
	return errors.Join(errs...)
}

// resolve reads what a reference names; other text is itself.
func resolve(text string) ([]byte, error) {
	if name, ok := strings.CutPrefix(text, envPrefix); ok {
		value := os.Getenv(name)
		if value == "" {
			return nil, fmt.Errorf("environment variable %s is not set in the worker", name)
		}
		return []byte(value), nil
	}
	if path, ok := strings.CutPrefix(text, filePrefix); ok {
		content, err := os.ReadFile(path)
		if err == nil && len(content) == 0 {
			err = fmt.Errorf("file %s is empty", path)
		}
		return content, err
	}
	return []byte(text), nil
}

// options reads the secrets, on a worker.
func (a Access) options() ([]kgo.Opt, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	var opts []kgo.Opt
	if a.SASL != "" {
		mechanism, err := a.mechanism()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.SASL(mechanism))
	}
	if a.TLS {
		config, err := a.tlsConfig()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(config))
	}
	return opts, nil
}

func (a Access) mechanism() (sasl.Mechanism, error) {
	user, err := resolve(a.User)
	if err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	password, err := resolve(a.Password)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	name, secret := strings.TrimRight(string(user), "\r\n"), strings.TrimRight(string(password), "\r\n") // Files end lines.
	switch a.SASL {
	case "plain":
		return plain.Auth{User: name, Pass: secret}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: name, Pass: secret}.AsSha256Mechanism(), nil
	}
	return scram.Auth{User: name, Pass: secret}.AsSha512Mechanism(), nil
}

func (a Access) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CA != "" {
		pem, err := resolve(a.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("ca: no PEM certificate in it")
		}
	}
	if a.ClientCert == "" {
		return config, nil
	}
	cert, err := resolve(a.ClientCert)
	if err != nil {
		return nil, fmt.Errorf("cert: %w", err)
	}
	key, err := resolve(a.ClientKey)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, errors.New("cert and key: not a PEM certificate with its key")
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}
