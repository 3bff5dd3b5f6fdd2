// SPDX-License-Identifier: Apache-2.0

package planner

import (
	"math/rand/v2"
	"slices"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/hornbeam-dev/hornbeam/runner/internal/urn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// FuzzPlan shows that no pipeline makes the planner panic, however it was changed, and that what
// is accepted gives a sound plan. It changes pipelines as messages, since changed bytes are
// mostly no message at all.
func FuzzPlan(f *testing.F) {
	for i := range len(pipelines) {
		for seed := range uint64(20) {
			f.Add(uint8(i), seed)
		}
	}
	names := sorted(pipelines)
	protos := map[string]*pipepb.Pipeline{}
	f.Fuzz(func(t *testing.T, i uint8, seed uint64) {
		name := names[int(i)%len(names)]
		if protos[name] == nil {
			protos[name] = build(t, name)
		}
		p := proto.CloneOf(protos[name])
		mutate(p, rand.New(rand.NewPCG(seed, 0)))
		got, err := Plan(p, Options{NoFusion: seed%2 == 0, NoLifting: seed%3 == 0})
		if err == nil {
			verifyStages(t, got)
		}
	})
}

func FuzzPlanBytes(f *testing.F) {
	for name := range pipelines {
		b, err := proto.Marshal(build(f, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p pipepb.Pipeline
		if proto.Unmarshal(b, &p) != nil {
			return
		}
		if got, err := Plan(&p, Options{}); err == nil {
			verifyStages(t, got)
		}
	})
}

// mutate changes a pipeline in one to four places, payloads of transforms included.
func mutate(p *pipepb.Pipeline, r *rand.Rand) {
	payloads := map[*pipepb.PTransform]proto.Message{}
	for _, id := range sorted(p.Components.Transforms) {
		m := p.Components.Transforms[id]
		var payload proto.Message
		switch m.GetSpec().GetUrn() {
		case urn.ParDo:
			payload = &pipepb.ParDoPayload{}
		case urn.CombinePerKey:
			payload = &pipepb.CombinePayload{}
		case urn.TestStream:
			payload = &pipepb.TestStreamPayload{}
		case urn.WindowInto:
			payload = &pipepb.WindowIntoPayload{}
		default:
			continue
		}
		must(proto.Unmarshal(m.Spec.Payload, payload))
		payloads[m] = payload
	}
	messages := []proto.Message{p}
	for _, id := range sorted(p.Components.Transforms) {
		if payload := payloads[p.Components.Transforms[id]]; payload != nil {
			messages = append(messages, payload)
		}
	}
	var places []func()
	var pool []string
	for _, m := range messages {
		collect(m.ProtoReflect(), r, &places, &pool)
	}
	for range 1 + r.IntN(4) {
		places[r.IntN(len(places))]()
	}
	for m, payload := range payloads {
		if m.Spec != nil {
			m.Spec.Payload = mustMarshal(payload)
		}
	}
}

// collect finds all places of a message that can be changed, and all its strings.
func collect(m protoreflect.Message, r *rand.Rand, places *[]func(), pool *[]string) {
	var fields []protoreflect.FieldDescriptor
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fields = append(fields, f)
		return true
	})
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	for _, f := range fields {
		v := m.Get(f)
		*places = append(*places, func() { m.Clear(f) })
		switch {
		case f.IsMap():
			collectMap(v.Map(), f, r, places, pool)
		case f.IsList():
			l := v.List()
			*places = append(*places, func() { l.Truncate(l.Len() / 2) })
			for i := range l.Len() {
				switch f.Kind() {
				case protoreflect.MessageKind:
					collect(l.Get(i).Message(), r, places, pool)
				case protoreflect.StringKind:
					*places = append(*places, func() {
						if i < l.Len() {
							l.Set(i, pick(r, *pool))
						}
					})
					*pool = append(*pool, l.Get(i).String())
				}
			}
		case f.Kind() == protoreflect.MessageKind:
			collect(v.Message(), r, places, pool)
		case f.Kind() == protoreflect.StringKind:
			*pool = append(*pool, v.String())
			*places = append(*places, func() { m.Set(f, pick(r, *pool)) })
		case f.Kind() == protoreflect.EnumKind:
			*places = append(*places, func() { m.Set(f, protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(6)))) })
		case f.Kind() == protoreflect.Int64Kind:
			*places = append(*places, func() { m.Set(f, protoreflect.ValueOfInt64(int64(r.Uint64()))) })
		case f.Kind() == protoreflect.BytesKind:
			*places = append(*places, func() {
				b := slices.Clone(m.Get(f).Bytes())
				if len(b) > 0 {
					b[r.IntN(len(b))] = byte(r.Uint32())
				}
				m.Set(f, protoreflect.ValueOfBytes(b))
			})
		}
	}
}

func collectMap(m protoreflect.Map, f protoreflect.FieldDescriptor, r *rand.Rand, places *[]func(), pool *[]string) {
	var keys []string
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	*pool = append(*pool, keys...)
	for _, s := range keys {
		k := protoreflect.ValueOfString(s).MapKey()
		*places = append(*places, func() { m.Clear(k) })
		switch f.MapValue().Kind() {
		case protoreflect.MessageKind:
			collect(m.Get(k).Message(), r, places, pool)
		case protoreflect.StringKind:
			*pool = append(*pool, m.Get(k).String())
			*places = append(*places, func() {
				if m.Has(k) { // Not if the map was cleared before.
					m.Set(k, pick(r, *pool))
				}
			})
		}
	}
}

func pick(r *rand.Rand, pool []string) protoreflect.Value {
	return protoreflect.ValueOfString(pool[r.IntN(len(pool))])
}
