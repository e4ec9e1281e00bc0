package control_test

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"weir/conntrack"
	"weir/control"
	"weir/internal/testpkt"
	"weir/ipvsadm"
	"weir/lb"
)

// replay is a director that recordings of a real IPVS are played to: its addresses are the recorded one's, and what weir
// leaves to the kernel gets the kernel's part.
type replay struct {
	*director
	rules      ipvsadm.Rules
	superseded map[string]float64 // by server: its connections that a SYN of the same ports ended
}

// recordedOwn is the recorded director's address on the clients' side.
var recordedOwn = netip.MustParseAddr("10.0.0.1")

// newReplay returns a director that is set up as the recorded one was: sysctls first, then the configuration line by line.
func newReplay(t *testing.T, sysctls map[string]int, config ...string) (*replay, error) {
	settings := lb.DefaultSysctls()
	settings.ExpireNodestConn = lb.NodestNone // IPVS's default, where weir's is another
	for name, value := range sysctls {
		if err := settings.Set(fmt.Sprintf("%s=%d", strings.TrimPrefix(name, "net.ipv4.vs."), value)); err != nil {
			return nil, err
		}
	}
	options := control.Options{Sysctls: settings}
	for _, nobody := range []string{"1 any 240.0.0.0", "1 any 100::"} { // a mark's service needs some rule to be accepted
		rule, err := lb.ParseMarkRule(nobody)
		if err != nil {
			t.Fatal(err)
		}
		options.Marks = append(options.Marks, rule)
	}
	r := &replay{director: newDirectorWith(t, 1, conntrack.Options{Capacity: 1024}, options), superseded: map[string]float64{}}
	r.paths.local = lb.AddrFrom(recordedOwn)
	r.store.Defend(slog.New(slog.DiscardHandler))
	for _, line := range config {
		if err := r.ipvsadm(line); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// ipvsadm carries out one command that changes something.
func (r *replay) ipvsadm(line string) error {
	c, err := ipvsadm.ParseLine(line)
	if err != nil {
		return err
	}
	if !c.Op.IsRule() {
		return nil // a listing: what it shows is compared after every step anyway, its form in ipvsadm's tests
	}
	if err := r.rules.Apply(c); err != nil {
		return err
	}
	if c.Op == ipvsadm.OpSetTimeouts {
		timeouts := r.conns.Timeouts()
		timeouts.Set(uint32(c.Timeouts.TCP), uint32(c.Timeouts.TCPFin), uint32(c.Timeouts.UDP))
		r.conns.SetTimeouts(timeouts)
		return nil
	}
	before := r.store.Listing()
	if err := r.store.Apply(r.rules.Services()); err != nil {
		return err
	}
	if c.Op == ipvsadm.OpEditServer && reflect.DeepEqual(before, r.store.Listing()) {
		r.store.Touch(c.Service.Key, c.Server.Addr, c.Server.Port)
	}
	r.settle()
	return nil
}

// settle lets housekeeping finish, as the recorder waited for the kernel's.
func (r *replay) settle() {
	for done := false; !done; {
		_, done = r.workers[0].Turn()
	}
}

// mark gives the packets of one flow's addresses and port a mark, and no others: SO_MARK on the recorder's socket did that.
func (r *replay) mark(mark uint32, src, dst netip.AddrPort) {
	edit := r.shared.Table().Edit()
	bits := dst.Addr().BitLen()
	rule := lb.MarkRule{
		Mark: mark, Low: dst.Port(), High: dst.Port(),
		Dst: lb.Prefix{Addr: lb.AddrFrom(dst.Addr()), Bits: bits}, Src: lb.Prefix{Addr: lb.AddrFrom(src.Addr()), Bits: bits},
	}
	if mark == 0 {
		edit.SetMarks(nil)
	} else {
		edit.SetMarks([]lb.MarkRule{rule})
	}
	r.shared.Publish(edit.Table())
}

// frame is an IP packet in a recording's words.
type frame map[string]any

// segment builds a recorded packet; without flags it is a datagram of one byte.
func segment(proto, flags string, src, dst netip.AddrPort) testpkt.Packet {
	if proto == "udp" {
		return testpkt.UDP(src, dst).Text("x")
	}
	var f testpkt.Flags
	for _, letter := range flags {
		f |= 1 << strings.IndexRune("FSRPAU", letter)
	}
	return testpkt.TCP(src, dst, f)
}

// arrive lets a frame arrive on an interface and returns what left for the servers and for the clients, the kernel's answers included.
func (r *replay) arrive(iface int, bytes []byte) (toServers, toClients []*testpkt.View, err error) {
	*r.host = hostLog{}
	if !r.queues[0][iface].Inject(bytes) {
		return nil, nil, errors.New("queue full")
	}
	r.workers[0].Turn()
	out := [2][]*testpkt.View{}
	for i, q := range r.queues[0] {
		for _, sent := range q.Sent() {
			v, err := testpkt.Parse(sent)
			if err == nil {
				err = v.Checksums
			}
			if err == nil && v.Inner != nil {
				err = v.Inner.Checksums
			}
			if err != nil {
				return nil, nil, err
			}
			out[i] = append(out[i], v)
		}
		if n := q.Outstanding(); n != 0 {
			return nil, nil, fmt.Errorf("%d frames of interface %d are lost", n, i)
		}
	}
	for _, given := range r.host.frames {
		v, err := testpkt.Parse(given)
		if err != nil {
			return nil, nil, err
		}
		if answer := kernel(v); answer != nil {
			out[0] = append(out[0], answer)
		}
	}
	return out[1], out[0], nil
}

// kernel is what the recorded director's own stack does with a packet that IPVS leaves to it: all that clients send is for one
// of its addresses, where nothing listens; all that servers send is to be routed to the client.
func kernel(v *testpkt.View) *testpkt.View {
	var answer testpkt.Packet
	switch {
	case fromServer(v.Src.Addr()):
		routed := *v
		routed.TTL--
		return &routed
	case v.Proto == 6 && v.IP.Flags&testpkt.RST != 0:
		return nil
	case v.Proto == 6 && v.IP.Flags&testpkt.ACK != 0:
		answer = testpkt.TCP(v.Dst, v.Src, testpkt.RST)
	case v.Proto == 6:
		answer = testpkt.TCP(v.Dst, v.Src, testpkt.RST, testpkt.ACK)
	default:
		answer = testpkt.ICMPError(v.Dst.Addr(), v.Src.Addr(), 3, 3, 0, testpkt.UDP(v.Src, v.Dst)) // recorded for IPv4 only
	}
	view, err := testpkt.Parse(answer.Bytes())
	if err != nil {
		panic(err)
	}
	return view
}

// fromServer reports whether a is a recorded server's: of 10.20.0.0/16 or 2001:db8:20::/48.
func fromServer(a netip.Addr) bool {
	return netip.MustParsePrefix("10.20.0.0/16").Contains(a) || netip.MustParsePrefix("2001:db8:20::/48").Contains(a)
}

// frames puts packets into a recording's words.
func frames(views []*testpkt.View) []frame {
	list := []frame{}
	for _, v := range views {
		list = append(list, frameOf(&v.IP))
	}
	return list
}

func frameOf(p *testpkt.IP) frame {
	f := frame{"src": p.Src.Addr().String(), "dst": p.Dst.Addr().String(), "ttl": float64(p.TTL)}
	switch p.Proto {
	case 6:
		var flags strings.Builder
		for _, letter := range "SFRPAU" { // the recorder's order
			if p.Flags>>strings.IndexRune("FSRPAU", letter)&1 != 0 {
				flags.WriteRune(letter)
			}
		}
		f["proto"], f["flags"] = "tcp", flags.String()
	case 17:
		f["proto"] = "udp"
		if p.Dst.Port() == guePort {
			f["gue"], f["udp_checksum"] = hex.EncodeToString(p.Payload[:4]), "zero"
			if p.L4Checksum != 0 {
				f["udp_checksum"] = "set"
			}
			f["inner"] = map[string]any(carried(p.Payload[4:]))
		}
	case 47:
		f["proto"], f["gre"], f["inner"] = "gre", hex.EncodeToString(p.Payload[:4]), map[string]any(carried(p.Payload[4:]))
	case 58:
		f["proto"], f["type"], f["code"] = "icmpv6", float64(p.ICMPType), float64(p.ICMPCode)
	case 1:
		f["proto"], f["type"], f["code"] = "icmp", float64(p.ICMPType), float64(p.ICMPCode)
	case 4:
		f["proto"], f["inner"] = "ipip", map[string]any(frameOf(p.Inner))
	default:
		f["proto"] = fmt.Sprint(p.Proto)
	}
	if p.Proto == 6 || p.Proto == 17 {
		f["sport"], f["dport"] = float64(p.Src.Port()), float64(p.Dst.Port())
	}
	if f["gue"] != nil && p.Src.Port() != 0 {
		f["sport"] = "flow hash" // its key is random
	}
	return f
}

// guePort is the port of the recorded GUE servers.
const guePort = 6080

// carried is the packet in a tunnel that testpkt does not look into.
func carried(ip []byte) frame {
	v, err := testpkt.Parse(ethernet(ip))
	if err == nil {
		err = v.Checksums
	}
	if err != nil {
		return frame{"error": err.Error()}
	}
	return frameOf(&v.IP)
}

// recordedConn is an entry of the recorded connection table.
type recordedConn struct {
	Proto, Client, Virtual, Server, State string
	Expires                               int
}

// table returns weir's connection table in the recording's words, sorted.
func (r *replay) table() []recordedConn {
	list := []recordedConn{}
	r.conns.Range(0, 1<<20, func(_ conntrack.Ref, c *conntrack.Conn) bool {
		virtualPort, serverPort := c.VirtualPort, c.ServerPort
		if c.Flags&conntrack.Retired != 0 {
			virtualPort, serverPort = conntrack.RetiredPort, conntrack.RetiredPort
		}
		proto := "ip"
		if c.Proto != 0 {
			proto = strings.ToLower(c.Proto.String())
		}
		list = append(list, recordedConn{
			Proto: proto, State: c.State.String(), Expires: int(c.Expires(r.now)),
			Client:  netip.AddrPortFrom(c.Client.Netip(), c.ClientPort).String(),
			Virtual: netip.AddrPortFrom(c.Virtual.Netip(), virtualPort).String(),
			Server:  netip.AddrPortFrom(c.Server.Netip(), serverPort).String(),
		})
		return true
	})
	sortConns(list)
	return list
}

// serverOf returns the server of a client's connection, empty if there is none.
func (r *replay) serverOf(client, virtual netip.AddrPort) string {
	for _, c := range r.table() {
		if c.Client == client.String() && c.Virtual == virtual.String() {
			return c.Server
		}
	}
	return ""
}

func sortConns(list []recordedConn) {
	slices.SortFunc(list, func(a, b recordedConn) int {
		a.Expires, b.Expires = 0, 0
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
}

// servers returns the services by the name that /proc/net/ip_vs has for them, each with its servers as [server, weight,
// active, inactive] in the kernel's order.
func (r *replay) servers() map[string][]any {
	list := map[string][]any{}
	for _, s := range r.store.Listing() {
		k := &s.Service.Key
		name := serviceName(k) + " " + s.Service.Scheduler
		if s.Service.OnePacket {
			name += " ops"
		}
		if s.Service.Persist != 0 {
			name += fmt.Sprintf(" persistent %d %08X", int(s.Service.Persist.Seconds())*100, netmask(&s.Service))
		}
		rows := []any{}
		for _, v := range s.Servers {
			addr := netip.AddrPortFrom(v.Server.Addr.Netip(), v.Server.Port).String()
			rows = append(rows, []any{addr, float64(v.Server.Weight), float64(v.Active), float64(v.Inactive)})
		}
		list[name] = rows
	}
	return list
}

// serviceName is a service as /proc/net/ip_vs begins its line.
func serviceName(k *lb.ServiceKey) string {
	switch {
	case k.Mark != 0:
		return fmt.Sprintf("FWM %08X", k.Mark)
	case k.Addr.Is4():
		return fmt.Sprintf("%s %08X:%04X", k.Proto, k.Addr.V4(), k.Port)
	}
	return fmt.Sprintf("%s [%s]:%04X", k.Proto, k.Addr.Netip().StringExpanded(), k.Port)
}

// netmask is what the kernel keeps for -M: an IPv4 mask, or an IPv6 prefix length of which the file shows the bytes turned round.
func netmask(s *lb.Service) uint32 {
	bits := s.PersistLen
	if s.Key.Is6 || s.Key.Mark == 0 && !s.Key.Addr.Is4() {
		if bits == 0 {
			bits = 128
		}
		return uint32(bits) << 24
	}
	if bits == 0 {
		bits = 32
	}
	return 0xffffffff << (32 - bits)
}

// same compares what weir did with what IPVS did.
func same(what string, got, recorded any) error {
	if reflect.DeepEqual(got, recorded) {
		return nil
	}
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(recorded)
	return fmt.Errorf("%s: %s, in IPVS %s", what, g, w)
}

// ethernet puts a recorded IP packet into a frame to the director.
func ethernet(ip []byte) []byte {
	b := append(slices.Clone([]byte(testpkt.DirectorMAC)), testpkt.ClientMAC...)
	ethertype := map[byte]uint16{4: 0x0800, 6: 0x86dd}[ip[0]>>4]
	return append(binary.BigEndian.AppendUint16(b, ethertype), ip...)
}

func readRecording(t *testing.T, path string, into any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
