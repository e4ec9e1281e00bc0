package bpf

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Sink counts the packets that an interface receives, by the MAC they are sent to, and drops them: TCP, UDP and IP, in IPv4 or IPv6
// without VLAN tags. Everything else goes on to the kernel. Its methods may be called from any goroutine.
type Sink struct {
	mu      sync.Mutex
	program *ebpf.Program
	maps    sinkMaps
	link    link.Link // nil after Close
}

type sinkMaps struct {
	Counts    *ebpf.Map `ebpf:"counts"`
	Samples   *ebpf.Map `ebpf:"samples"`
	Latencies *ebpf.Map `ebpf:"latencies"`
}

func (m *sinkMaps) Close() error {
	return errors.Join(m.Counts.Close(), m.Samples.Close(), m.Latencies.Close())
}

// SinkOptions say what a sink keeps besides counts; the zero value is nothing.
type SinkOptions struct {
	// SampleOneIn is how many packets to a MAC there are for each that is kept whole: a power of two; 0: none is.
	SampleOneIn int
	// Latency: IPv4 packets that carry a Generator's stamp are measured.
	Latency bool
}

// Count is what a sink received.
type Count struct {
	Packets uint64
	Bytes   uint64 // from the Ethernet header to the end of the packet, without FCS
}

// NewSink attaches a sink to the interface, in native mode.
func NewSink(ifindex int, o SinkOptions) (*Sink, error) {
	if o.SampleOneIn < 0 || o.SampleOneIn&(o.SampleOneIn-1) != 0 {
		return nil, fmt.Errorf("sink: a sample of one in %d: not a power of two", o.SampleOneIn)
	}
	spec, err := loadTraffic()
	if err != nil {
		return nil, err
	}
	err = errors.Join(spec.Variables["sample_one_in"].Set(uint32(o.SampleOneIn)), spec.Variables["measure_latency"].Set(flag(o.Latency)))
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	var objects struct {
		Program *ebpf.Program `ebpf:"sink"`
		sinkMaps
	}
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		return nil, fmt.Errorf("load sink: %w", explain(err))
	}
	s := &Sink{program: objects.Program, maps: objects.sinkMaps}
	s.link, err = link.AttachXDP(link.XDPOptions{Program: s.program, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		_ = errors.Join(s.program.Close(), s.maps.Close())
		return nil, fmt.Errorf("attach sink to interface %d: %w", ifindex, explain(err))
	}
	return s, nil
}

// Counts returns what has arrived since NewSink, by destination MAC.
func (s *Sink) Counts() (map[[6]byte]Count, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return nil, errors.New("sink: closed")
	}
	counts := make(map[[6]byte]Count)
	var mac trafficMac
	var perCPU []trafficCount
	each := s.maps.Counts.Iterate()
	for each.Next(&mac, &perCPU) {
		var sum Count
		for _, c := range perCPU {
			sum.Packets += c.Packets
			sum.Bytes += c.Bytes
		}
		counts[mac.Byte] = sum
	}
	return counts, each.Err()
}

// Total is the sum over all MACs.
func (s *Sink) Total() (Count, error) {
	counts, err := s.Counts()
	var sum Count
	for _, c := range counts {
		sum.Packets += c.Packets
		sum.Bytes += c.Bytes
	}
	return sum, err
}

// Samples returns the packets kept last, at most 1,024 of them. One that is being written meanwhile may be torn: stop the traffic first.
func (s *Sink) Samples() (frames [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return nil, errors.New("sink: closed")
	}
	var slot uint32
	var sample trafficSample
	each := s.maps.Samples.Iterate()
	for each.Next(&slot, &sample) {
		if n := sample.Length; n > 0 && int(n) <= len(sample.Data) {
			frames = append(frames, append([]byte(nil), sample.Data[:n]...))
		}
	}
	return frames, each.Err()
}

// Latency returns how long the stamped packets took that have arrived since NewSink, from when they were made to when they were dropped.
func (s *Sink) Latency() (*Histogram, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return nil, errors.New("sink: closed")
	}
	h := &Histogram{}
	var perCPU []uint64
	for i := range uint32(len(h)) {
		if err := s.maps.Latencies.Lookup(i, &perCPU); err != nil {
			return nil, fmt.Errorf("sink: %w", err)
		}
		for _, n := range perCPU {
			h[i] += n
		}
	}
	return h, nil
}

// Close takes the sink off the interface. Calling it again is harmless.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return nil
	}
	err := errors.Join(s.link.Close(), s.program.Close(), s.maps.Close())
	s.link = nil
	return err
}
