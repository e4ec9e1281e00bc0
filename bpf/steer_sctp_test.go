package bpf

import (
	"net/netip"
	"testing"

	"weir/internal/testpkt"
	"weir/lb"
)

func TestVerdictsOfSCTP(t *testing.T) {
	s, a := configured(t)
	must(t, s.AddService(lb.SCTP, lb.AddrFrom(vip), 2905))
	must(t, s.AddService(lb.SCTP, lb.AddrFrom(vip6), 0))
	must(t, s.AddServer(lb.SCTP, lb.AddrFrom(rip), 3868))
	must(t, s.AddTunnel(lb.AddrFrom(tunRIP)))
	must(t, s.AddPrefix(lb.SCTP, prefix("203.0.113.0/24"), 5, 9))
	init := testpkt.SCTP(at(client, 1000), at(vip, 2905), testpkt.ChunkInit)
	init6 := testpkt.SCTP(at(client6, 1000), at(vip6, 7), testpkt.ChunkInit)
	rows := []verdictRow{
		{"INIT to the service", init.Bytes(), steerVerdictREDIRECT_SERVICE},
		{"DATA to the service", testpkt.SCTP(at(client, 1000), at(vip, 2905)).Chunk(0, testpkt.Pattern(100)).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"INIT over IPv6 to any port", init6.Bytes(), steerVerdictREDIRECT_SERVICE},
		{"INIT behind IPv6 options", init6.Extension(60).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"another port", testpkt.SCTP(at(client, 1000), at(vip, 2906), testpkt.ChunkInit).Bytes(), steerVerdictPASS_OTHER},
		{"the port of the TCP service", testpkt.SCTP(at(client, 1000), at(vip, 80), testpkt.ChunkInit).Bytes(), steerVerdictPASS_OTHER},
		{"TCP to the port", testpkt.TCP(at(client, 1000), at(vip, 2905), testpkt.SYN).Bytes(), steerVerdictPASS_OTHER},
		{"to a local address", testpkt.SCTP(at(rip, 9), at(lip, 5500), testpkt.ChunkInitAck).Bytes(), steerVerdictREDIRECT_LOCAL},
		{"from a NAT server", testpkt.SCTP(at(rip, 3868), at(client, 1), testpkt.ChunkInitAck).Bytes(), steerVerdictREDIRECT_NAT},
		{"from a NAT server to the host itself", testpkt.SCTP(at(rip, 3868), at(own, 1), testpkt.ChunkInitAck).Bytes(), steerVerdictPASS_OWN},
		{"from another port of a NAT server", testpkt.SCTP(at(rip, 3869), at(client, 1), testpkt.ChunkInitAck).Bytes(), steerVerdictPASS_OTHER},
		{"to where a mark may be given", testpkt.SCTP(at(client, 1), at(router, 9), testpkt.ChunkInit).Bytes(), steerVerdictREDIRECT_MARK},
		{"above where a mark may be given", testpkt.SCTP(at(client, 1), at(router, 10), testpkt.ChunkInit).Bytes(), steerVerdictPASS_OTHER},
		{"UDP to where a mark may be given to SCTP", testpkt.UDP(at(client, 1), at(router, 9)).Bytes(), steerVerdictPASS_OTHER},
		{"first fragment to a service", init.Fragment(0, true).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"later fragment over IPv6", init6.Fragment(8, false).Bytes(), steerVerdictREDIRECT_FRAGMENT},
		{"fragment to another address", testpkt.SCTP(at(client, 1), at(own, 1), 0).Fragment(0, true).Bytes(), steerVerdictPASS_FRAGMENT},
		{"without a chunk", testpkt.SCTP(at(client, 1000), at(vip, 2905)).Bytes(), steerVerdictPASS_MALFORMED},
		{"half a chunk's header", length(init.Bytes()[:14+20+15], 16, 35), steerVerdictPASS_MALFORMED},
		{"ICMP error about an answer", testpkt.ICMPError(router, vip, 3, 4, 1400, testpkt.SCTP(at(vip, 2905), at(client, 1), 0)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about an answer from another port", testpkt.ICMPError(router, vip, 3, 4, 1400, testpkt.SCTP(at(vip, 80), at(client, 1), 0)).Bytes(),
			steerVerdictPASS_ICMP_ERROR},
		{"ICMPv6 error about an answer", testpkt.ICMPError(client6, vip6, 2, 0, 1400, testpkt.SCTP(at(vip6, 7), at(client6, 1), 0)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about SCTP to a TUN server", testpkt.ICMPError(router, own, 3, 3, 0, testpkt.SCTP(at(own, 1), at(tunRIP, 22), 0)).Bytes(), steerVerdictPASS_ICMP_ERROR},
	}
	wantVerdicts(t, s, a, rows)
}

func TestVerdictsOfIPsec(t *testing.T) {
	s, a := configured(t)
	must(t, s.AddService(lb.UDP, lb.AddrFrom(vip), 500))
	must(t, s.AddService(lb.UDP, lb.AddrFrom(vip6), 500))
	must(t, s.AddServer(lb.UDP, lb.AddrFrom(rip), 500))
	must(t, s.AddTunnel(lb.AddrFrom(tunRIP)))
	sealed := func(src, dst netip.Addr, proto uint8) testpkt.Packet {
		return testpkt.Raw(src, dst, proto).Payload(testpkt.Pattern(16))
	}
	otherVIP := vip.Next().Next()
	must(t, s.AddService(lb.UDP, lb.AddrFrom(otherVIP), 501))
	rows := []verdictRow{
		{"ESP to an ISAKMP service", sealed(client, vip, 50).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"AH to an ISAKMP service", sealed(client, vip, 51).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"ESP over IPv6", sealed(client6, vip6, 50).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"AH over IPv6", sealed(client6, vip6, 51).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"ESP behind IPv6 options", sealed(client6, vip6, 50).Extension(60).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"ESP to a service for every port", sealed(client, anyVIP, 50).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"ESP to a service on another port", sealed(client, otherVIP, 50).Bytes(), steerVerdictPASS_OTHER},
		{"ESP to the host", sealed(client, own, 50).Bytes(), steerVerdictPASS_OTHER},
		{"ESP from the VIP", sealed(vip, client, 50).Bytes(), steerVerdictPASS_OTHER},
		{"a protocol beside them", sealed(client, vip, 52).Bytes(), steerVerdictPASS_OTHER},
		{"ESP from a NAT server", sealed(rip, client, 50).Bytes(), steerVerdictREDIRECT_NAT},
		{"ESP from a NAT server to the host itself", sealed(rip, own, 50).Bytes(), steerVerdictPASS_OWN},
		{"first fragment of ESP", sealed(client, vip, 50).Fragment(0, true).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"later fragment of ESP", sealed(client, vip, 50).Fragment(1480, false).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"later fragment of ESP over IPv6", sealed(client6, vip6, 50).Fragment(1448, false).Bytes(), steerVerdictREDIRECT_SERVICE},
		{"fragment of ESP to another address", sealed(client, own, 50).Fragment(1480, false).Bytes(), steerVerdictPASS_OTHER},
		{"ICMP error about ESP from the VIP", testpkt.ICMPError(router, vip, 3, 4, 1400, sealed(vip, client, 50)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about ESP to a NAT server", testpkt.ICMPError(rip, client, 3, 2, 0, sealed(client, rip, 50)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
		{"ICMP error about ESP from another VIP", testpkt.ICMPError(router, otherVIP, 3, 4, 1400, sealed(otherVIP, client, 50)).Bytes(), steerVerdictPASS_ICMP_ERROR},
		{"ICMPv6 error about AH from the VIP", testpkt.ICMPError(client6, vip6, 2, 0, 1400, sealed(vip6, client6, 51)).Bytes(), steerVerdictREDIRECT_ICMP_ERROR},
	}
	wantVerdicts(t, s, a, rows)
}
