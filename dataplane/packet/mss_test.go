package packet_test

import (
	"bytes"
	"testing"

	"weir/dataplane/packet"
	"weir/dataplane/reason"
	"weir/internal/testpkt"
)

func TestClampMSS(t *testing.T) {
	syn := testpkt.TCP(client, virtual, testpkt.SYN)
	for name, c := range map[string]struct {
		in   testpkt.Packet
		want testpkt.Packet
	}{
		"a larger one is lowered":           {syn.MSS(1460), syn.MSS(1400)},
		"one more":                          {syn.MSS(1401), syn.MSS(1400)},
		"one that fits stays":               {syn.MSS(1400), syn.MSS(1400)},
		"a smaller one stays":               {syn.MSS(536), syn.MSS(536)},
		"none stays none":                   {syn.TCPOption(3, 7), syn.TCPOption(3, 7)},
		"no options":                        {syn, syn},
		"behind others":                     {syn.TCPOption(4).TCPOption(3, 7).MSS(8960), syn.TCPOption(4).TCPOption(3, 7).MSS(1400)},
		"at an odd byte":                    {syn.TCPOption(1).MSS(8960).Text("data"), syn.TCPOption(1).MSS(1400).Text("data")},
		"the last thing in the header":      {syn.TCPOption(1).TCPOption(1).TCPOption(4).MSS(1460), syn.TCPOption(1).TCPOption(1).TCPOption(4).MSS(1400)},
		"behind the options' end":           {syn.TCPOption(0).MSS(1460), syn.TCPOption(0).MSS(1460)},
		"one of the wrong length":           {syn.TCPOption(2, 5, 180, 0), syn.TCPOption(2, 5, 180, 0)},
		"the first of two counts":           {syn.MSS(1460).MSS(1460), syn.MSS(1400).MSS(1460)},
		"over IPv6, behind options of IP":   {testpkt.TCP(client6, virtual6, testpkt.SYN).Extension(options).MSS(1440), testpkt.TCP(client6, virtual6, testpkt.SYN).Extension(options).MSS(1400)},
		"padding of the frame is no option": {syn.Pad(80), syn.Pad(80)},
	} {
		frame := c.in.Bytes()
		p := parsedFrame(t, frame)
		p.ClampMSS(1400)
		testpkt.Decode(t, frame).MustHold(t)
		if want := c.want.Bytes(); !bytes.Equal(frame, want) {
			t.Errorf("%s:\n%x, want\n%x", name, frame, want)
		}
	}
}

func TestClampingNeverRepairsAChecksum(t *testing.T) {
	frame := testpkt.TCP(client, virtual, testpkt.SYN).MSS(1460).Bytes()
	frame[14+20+16] ^= 0x40
	parsedFrame(t, frame).ClampMSS(1400)
	if v := testpkt.Decode(t, frame); v.Checksums == nil {
		t.Error("a wrong checksum came out right")
	}
}

// soundTCP adds up a TCP segment over IPv4 without options, word by word, with its pseudo header: gopacket refuses impossible options.
func soundTCP(frame []byte) bool {
	sum := uint32(6 + len(frame) - 34)
	for i, b := range frame[26:] {
		sum += uint32(b) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

// FuzzClampMSS changes nothing but an option's value and the checksum, whatever the header says.
func FuzzClampMSS(f *testing.F) {
	f.Add(testpkt.TCP(client, virtual, testpkt.SYN).TCPOption(1).MSS(1460).Bytes()[34:], uint16(1400))
	f.Add(testpkt.TCP(client, virtual, testpkt.SYN).TCPOption(3, 7).TCPOption(2, 5, 180, 0).Bytes()[34:], uint16(1400))
	f.Fuzz(func(t *testing.T, segment []byte, most uint16) {
		frame := testpkt.Raw(client.Addr(), virtual.Addr(), 6).Payload(segment).Bytes()
		var p packet.Packet
		if p.Parse(frame, 0, len(frame)) != reason.None {
			return
		}
		before := bytes.Clone(frame)
		sound := soundTCP(frame)
		p.ClampMSS(int(most))
		changed := 0
		for i := range frame {
			if at := i - 34; frame[i] != before[i] && at != 16 && at != 17 {
				changed++
				if at < 22 || at >= int(before[34+12]>>4)*4 {
					t.Fatalf("byte %d behind the TCP header's begin was changed", at)
				}
			}
		}
		if changed > 2 || soundTCP(frame) != sound {
			t.Fatalf("%d bytes changed, the checksum was right: %t\n%x\n%x", changed, sound, before, frame)
		}
	})
}
