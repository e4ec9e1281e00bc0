package testpkt

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

var (
	client4, vip4 = netip.MustParseAddrPort("192.0.2.10:40000"), netip.MustParseAddrPort("192.0.2.100:80")
	client6, vip6 = netip.MustParseAddrPort("[2001:db8::10]:40000"), netip.MustParseAddrPort("[2001:db8::100]:80")
	dip, rip      = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.11")
)

var packets = map[string]Packet{
	"SYN":                    TCP(client4, vip4, SYN).MSS(1460),
	"SYN over IPv6":          TCP(client6, vip6, SYN),
	"data":                   TCP(client4, vip4, PSH, ACK).Text("odd"),
	"UDP":                    UDP(client4, vip4).Text("hello"),
	"UDP over IPv6":          UDP(client6, vip6).Text("hello"),
	"UDP without checksum":   UDP(client4, vip4).NoChecksum(),
	"two tags":               TCP(client4, vip4, SYN).VLAN(10, 20).ServiceTag(),
	"options":                TCP(client4, vip4, SYN).Options(7, 7, 4, 0, 0, 0, 0),
	"IP in IP":               TCP(client4, vip4, SYN).Via(dip, rip),
	"IPv6 in IPv6":           TCP(client6, vip6, SYN).Via(client6.Addr(), vip6.Addr()),
	"IPv6 in IPv4":           TCP(client6, vip6, SYN).Via(dip, rip),
	"echo":                   Echo(client4.Addr(), vip4.Addr()).Text("ping"),
	"echo over IPv6":         Echo(client6.Addr(), vip6.Addr()).Text("ping"),
	"first fragment":         UDP(client4, vip4).Text("01234567").Fragment(0, true),
	"last fragment":          UDP(client4, vip4).Text("tail").Fragment(1480, false),
	"last fragment of IPv6":  UDP(client6, vip6).Text("tail").Fragment(1448, false),
	"first fragment of IPv6": UDP(client6, vip6).Text("01234567").Fragment(0, true),
	"extension headers":      UDP(client6, vip6).Text("x").Extension(0, 5, 2, 0, 0).Extension(60, 1, 4).Extension(43, 2),
	"atomic fragment":        TCP(client6, vip6, SYN).Extension(44),
	"too big":                ICMPError(vip4.Addr(), client4.Addr(), 3, 4, 1400, TCP(client4, vip4, ACK)),
	"INIT":                   SCTP(client4, vip4, ChunkInit),
	"SCTP data over IPv6":    SCTP(client6, vip6).Chunk(ChunkSack, make([]byte, 12)).Chunk(ChunkData, Pattern(13)),
	"another protocol":       Raw(client4.Addr(), vip4.Addr(), 50).Text("esp"),
}

func TestEveryPacketHoldsItsChecksums(t *testing.T) {
	for name, p := range packets {
		t.Run(name, func(t *testing.T) {
			v := Decode(t, p.From(MAC(1)).To(MAC(2)).TTL(9).TOS(3).Bytes()).MustHold(t)
			if !bytes.Equal(v.SrcMAC, MAC(1)) || !bytes.Equal(v.DstMAC, MAC(2)) {
				t.Errorf("MACs are %s -> %s", v.SrcMAC, v.DstMAC)
			}
			ip := &v.IP
			if ip.Inner != nil {
				ip = ip.Inner
			}
			if ip.TTL != 9 || ip.TOS != 3 {
				t.Errorf("TTL %d, TOS %d", ip.TTL, ip.TOS)
			}
		})
	}
}

func TestAFlippedBitOfTheIPPacketIsSeen(t *testing.T) {
	for _, name := range []string{"SYN", "SYN over IPv6", "data", "UDP", "UDP over IPv6", "echo", "echo over IPv6", "options", "INIT"} {
		whole := packets[name].Bytes()
		for i := 14; i < len(whole); i++ {
			frame := bytes.Clone(whole)
			frame[i] ^= 4
			v, err := Parse(frame)
			if err != nil || v.Checksums != nil {
				continue
			}
			if v.Src.Addr().Is6() && (i < 18 || i == 21) || v.Proto != Decode(t, whole).Proto {
				continue // IPv6's traffic class, flow label and hop limit, which nothing protects; or no longer the protocol it was
			}
			t.Errorf("%s: a flipped bit in byte %d goes unseen", name, i)
		}
	}
}

func TestViewTellsWhatWasBuilt(t *testing.T) {
	v := Decode(t, TCP(client4, vip4, SYN, ACK).Seq(5).Ack(6).Window(7).ID(8).DF().VLAN(10, 20).Text("payload").Bytes())
	if v.Src != client4 || v.Dst != vip4 || v.Flags != SYN|ACK || v.Seq != 5 || v.Ack != 6 || v.Window != 7 || v.ID != 8 || !v.DF || v.MF {
		t.Errorf("got %+v", v.IP)
	}
	if len(v.VLANs) != 2 || v.VLANs[0] != 10 || v.VLANs[1] != 20 || string(v.Payload) != "payload" {
		t.Errorf("tags %v, payload %q", v.VLANs, v.Payload)
	}

	inner := Decode(t, packets["IP in IP"].Bytes())
	if inner.Src.Addr() != dip || inner.Dst.Addr() != rip || inner.Inner.Src != client4 || inner.Inner.Dst != vip4 {
		t.Errorf("tunnel %s -> %s carries %s -> %s", inner.Src, inner.Dst, inner.Inner.Src, inner.Inner.Dst)
	}

	fragment := Decode(t, packets["last fragment of IPv6"].Bytes())
	if fragment.Offset != 1448 || fragment.MF || fragment.HasL4Header || string(fragment.Payload) != "tail" {
		t.Errorf("fragment %+v", fragment.IP)
	}

	src, dst, proto, err := Decode(t, packets["too big"].Bytes()).Quoted()
	if err != nil || src != client4 || dst != vip4 || proto != 6 {
		t.Errorf("quoted %s -> %s, protocol %d, %v", src, dst, proto, err)
	}
}

func TestSizeAndPadCountTheWholeFrame(t *testing.T) {
	for n := 60; n <= 1514; n++ {
		frame := UDP(client4, vip4).Size(n).Bytes()
		if len(frame) != n || Decode(t, frame).MustHold(t).Length != n-14 {
			t.Fatalf("asked for %d bytes, got %d", n, len(frame))
		}
	}
	if n := len(TCP(client4, vip4, SYN).Bytes()); n != 54 {
		t.Errorf("a bare SYN has %d bytes", n)
	}
	padded := Decode(t, TCP(client4, vip4, SYN).Pad(60).Bytes()).MustHold(t)
	if len(padded.Frame) != 60 || padded.Length != 40 || len(padded.Payload) != 0 {
		t.Errorf("padded: frame %d, packet %d, payload %d", len(padded.Frame), padded.Length, len(padded.Payload))
	}
}

func TestAZeroUDPChecksumIsSentAsAllOnes(t *testing.T) {
	for i := range 1 << 16 {
		v := Decode(t, UDP(client4, vip4).Payload([]byte{byte(i >> 8), byte(i)}).Bytes())
		if v.ZeroUDP {
			t.Fatalf("payload %04x leaves the checksum zero", i)
		}
		if v.L4Checksum == 0xffff {
			v.MustHold(t)
			return
		}
	}
	t.Fatal("no payload made the checksum zero")
}

func TestAMissingUDPChecksumHoldsOnIPv4Only(t *testing.T) {
	if v := Decode(t, UDP(client4, vip4).NoChecksum().Bytes()).MustHold(t); !v.ZeroUDP {
		t.Error("not seen as missing")
	}
	if v := Decode(t, UDP(client6, vip6).NoChecksum().Bytes()); v.Checksums == nil || !strings.Contains(v.Checksums.Error(), "zero") {
		t.Errorf("over IPv6: %v", v.Checksums)
	}
}

func TestTemplatesAreNotChangedByTheirCopies(t *testing.T) {
	template := TCP(client4, vip4, SYN).VLAN(1).MSS(1)
	before := template.Bytes()
	_, _ = template.VLAN(2).MSS(2).Bytes(), template.VLAN(3).MSS(3).Bytes()
	if !bytes.Equal(before, template.Bytes()) {
		t.Error("the template changed")
	}
}
