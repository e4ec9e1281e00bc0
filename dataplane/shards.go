package dataplane

import (
	"maps"

	"weir/lb"
)

// shardCount bounds what one changed key costs the Table's successor: a copy of the key's shard, and a pointer to each other.
const shardCount = 256

// shards is a map by protocol, address and port of which an edit copies only the parts it changes. Immutable but for shardsEdit.
type shards[V any] struct {
	parts [shardCount]map[lb.ServiceKey]V
	count int
}

// shardOf spreads keys over the shards: Fibonacci hashing of everything that tells them apart.
func shardOf(k *lb.ServiceKey) uint8 {
	h := (k.Addr.Hi ^ k.Addr.Lo<<16 ^ uint64(k.Port) ^ uint64(k.Proto)<<56 ^ uint64(k.Mark)) * 0x9e3779b97f4a7c15
	return uint8((h ^ k.Addr.Lo*0xd6e8feb86659fd93) >> 56)
}

func (s *shards[V]) get(k lb.ServiceKey) V { return s.parts[shardOf(&k)][k] }

// shardsEdit says which parts are an edit's own.
type shardsEdit [shardCount]bool

// own returns the part of k, to be changed.
func (s *shards[V]) own(e *shardsEdit, k *lb.ServiceKey) map[lb.ServiceKey]V {
	i := shardOf(k)
	if !e[i] {
		if s.parts[i] = maps.Clone(s.parts[i]); s.parts[i] == nil {
			s.parts[i] = map[lb.ServiceKey]V{}
		}
		e[i] = true
	}
	return s.parts[i]
}

func (s *shards[V]) set(e *shardsEdit, k lb.ServiceKey, v V) {
	part := s.own(e, &k)
	before := len(part)
	part[k] = v
	s.count += len(part) - before
}

func (s *shards[V]) remove(e *shardsEdit, k lb.ServiceKey) {
	part := s.own(e, &k)
	before := len(part)
	delete(part, k)
	s.count += len(part) - before
}
