// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// marker is the object that names the job a place belongs to.
const marker = "_hornbeam_job"

// Claim makes a store's place that of the job with the given id, by a small object in it. A place that
// another job has claimed, or that holds objects and no claim, is refused; claiming again with the same id is
// not. Objects with a part that begins with a dot do not count.
func Claim(ctx context.Context, s Store, jobID string) error {
	if jobID == "" || len(jobID) > 1024 || strings.ContainsAny(jobID, "\r\n") {
		return fmt.Errorf("blob: job id %q must be one line of at most 1,024 bytes", jobID)
	}
	owner, err := claimant(ctx, s)
	if errors.Is(err, fs.ErrNotExist) {
		owner, err = claimNew(ctx, s, jobID)
	}
	if err != nil {
		return fmt.Errorf("blob: claim %s for job %q: %w", s.URL(), jobID, err)
	}
	if owner != jobID {
		return fmt.Errorf("blob: %s holds the results of job %q, this is job %q; name another place or move the results away", s.URL(), owner, jobID)
	}
	return nil
}

func claimant(ctx context.Context, s Store) (string, error) {
	o, err := s.Stat(ctx, marker)
	if err != nil {
		return "", err
	}
	r, err := s.Open(ctx, o, 0)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(r, 2048))
	if err := errors.Join(err, r.Close()); err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

// claimNew puts the claim there if nobody does it first, and returns whatever claim is there then.
func claimNew(ctx context.Context, s Store, jobID string) (string, error) {
	for o, err := range s.List(ctx, "") {
		if err != nil {
			return "", err
		}
		if o.Key == marker {
			return claimant(ctx, s)
		}
		if !strings.HasPrefix(o.Key, ".") && !strings.Contains(o.Key, "/.") {
			return "", fmt.Errorf("it is not empty (%s) and belongs to no job; name an empty place", o.Key)
		}
	}
	sp, err := s.Spool(marker)
	if err != nil {
		return "", err
	}
	_, err = sp.Write([]byte(jobID + "\n"))
	if err == nil {
		_, err = s.Create(ctx, marker, sp.Content(jobID))
	}
	if errors.Is(err, ErrConflict) {
		err = nil // Another job was quicker: the claim that is there counts.
	}
	if err := errors.Join(err, sp.Discard()); err != nil {
		return "", err
	}
	return claimant(ctx, s)
}
