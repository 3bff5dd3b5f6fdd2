// SPDX-License-Identifier: Apache-2.0

// Package shared keeps one client of a service for all who use it in a process. A runner makes many instances of a DoFn
// and takes them down between bundles; a client for each would know nothing, and connect anew.
package shared

import (
	"context"
	"sync"
	"time"
)

// Keep is how long a value that nobody uses is kept.
const Keep = time.Minute

// Pool holds one value per key.
type Pool[K comparable, V any] struct {
	open  func(context.Context, K) (V, error)
	close func(V)

	mu sync.Mutex // Guards of, and the items.
	of map[K]*item[V]
}

type item[V any] struct {
	value   V
	users   int
	closing *time.Timer // Runs while there are no users.
}

// NewPool returns a pool that opens a value when it is first used, and closes it when nobody has used it for Keep. While
// one is being opened, the others wait.
func NewPool[K comparable, V any](open func(context.Context, K) (V, error), close func(V)) *Pool[K, V] {
	return &Pool[K, V]{open: open, close: close, of: map[K]*item[V]{}}
}

// Acquire returns the value of a key, and what to call once when it is no longer used.
func (p *Pool[K, V]) Acquire(ctx context.Context, key K) (value V, release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it := p.of[key]
	if it == nil {
		if value, err = p.open(ctx, key); err != nil {
			return value, nil, err
		}
		it = &item[V]{value: value}
		p.of[key] = it
	}
	if it.closing != nil {
		it.closing.Stop()
		it.closing = nil
	}
	it.users++
	return it.value, func() { p.release(key, it) }, nil
}

func (p *Pool[K, V]) release(key K, it *item[V]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it.users--; it.users > 0 {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(Keep, func() {
		p.mu.Lock()
		unused := it.closing == timer // Else it was acquired while the timer waited for the lock.
		if unused {
			delete(p.of, key)
		}
		p.mu.Unlock()
		if unused {
			p.close(it.value)
		}
	})
	it.closing = timer
}

// Known returns the value of a key, if there is one, for somebody who does not keep it.
func (p *Pool[K, V]) Known(key K) (value V, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it := p.of[key]; it != nil {
		return it.value, true
	}
	return value, false
}
