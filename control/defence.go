package control

import (
	"log/slog"

	"weir/lb"
)

// The defences against more new connections than the table can hold, by their settings' names.
const (
	dropEntry = iota
	dropPacket
	secureTCP
	defences
)

var defenceNames = [defences]string{"drop_entry", "drop_packet", "secure_tcp"}

// highWater is the part of the table, one in so many entries, that has to be free: with less the automatic defences are on. It stands for
// IPVS's amemthresh, which is about free memory.
const highWater = 8

// Defend turns the defences that Sysctls asks for on and off, by how full the connection table is. Call it once a second. As in IPVS
// (ip_vs_ctl.c, update_defense_level), an automatic defence (1) that is on shows as 2. A line is logged when one goes on or off.
func (s *Store) Defend(log *slog.Logger) {
	stats := s.conns.Stats()
	reserve := (stats.Capacity + highWater - 1) / highWater
	free := stats.Capacity - stats.Used
	short := free < reserve

	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.opts.Sysctls
	var on [defences]bool
	for i, mode := range [defences]*int{&v.DropEntry, &v.DropPacket, &v.SecureTCP} {
		*mode, on[i] = defence(*mode, short)
	}
	s.conns.Shed(on[dropEntry])
	s.shared.RefuseEvery(refusal(&v, on[dropPacket], reserve, free))
	s.conns.SetSecure(on[secureTCP])
	if v != s.opts.Sysctls {
		s.opts.Sysctls = v
		edit := s.shared.Table().Edit()
		edit.SetSysctls(v)
		s.shared.Publish(edit.Table())
	}
	for i := range on {
		facts := []any{"name", defenceNames[i], "connections", stats.Used, "capacity", stats.Capacity}
		switch {
		case on[i] && !s.defending[i]:
			log.Warn("defence on", facts...)
		case !on[i] && s.defending[i]:
			log.Info("defence off", facts...)
		}
	}
	s.defending = on
}

// defence returns the mode that a defence goes on in, and whether it is on.
func defence(mode int, short bool) (next int, on bool) {
	switch mode {
	case lb.DefenceAuto, lb.DefenceActive:
		if short {
			return lb.DefenceActive, true
		}
		return lb.DefenceAuto, false
	case lb.DefenceAlways:
		return mode, true
	}
	return mode, false
}

// refusal returns drop_packet's rate, one new connection in so many, 0 for none: am_droprate or, when automatic, the more often the less
// there is free, every one below half the reserve.
func refusal(v *lb.Sysctls, on bool, reserve, free int) uint32 {
	switch {
	case !on:
		return 0
	case v.DropPacket == lb.DefenceAlways:
		return uint32(v.AmDropRate)
	}
	return uint32(reserve / (reserve - free))
}
