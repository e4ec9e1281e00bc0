package testnet

import (
	"fmt"
	"net/netip"
)

// The addresses of a Topology, of which each host has one of each family. A VIP is any other address of the client's networks, a LIP any
// other of the servers' networks.
const (
	ClientNet  = "192.0.2.0/24"
	ClientIP   = "192.0.2.10"
	DirectorIP = "192.0.2.1" // on the client's side: the client's gateway
	ServerNet  = "10.0.0.0/24"
	DIP        = "10.0.0.1" // on the servers' side: their gateway

	ClientNet6  = "2001:db8::/64"
	ClientIP6   = "2001:db8::10"
	DirectorIP6 = "2001:db8::1"
	ServerNet6  = "fd00:10::/64"
	DIP6        = "fd00:10::1"
)

// ServerMTU is what the servers' side carries: room for the outer header of TUN around 1,500 bytes.
const ServerMTU = 1600

// Plan says what a topology is to be.
type Plan struct {
	OneArm  bool     // client, director and servers on one switch; otherwise the director stands between two
	Servers int      // 3 when 0
	Queues  int      // of the director's interfaces; 1 when 0
	MTU     int      // of every link; 1,500 on the client's side and ServerMTU on the servers' when 0
	VIPs    []string // that the servers have on lo, and answer from without passing the director; of either family
}

// Topology is a client, a director and servers, ready for every mode at once: the servers have the VIPs on lo and don't answer ARP for
// them, what they send from a VIP goes straight to the client, and all else that leaves their network goes by way of the director, which
// routes.
//
//	two arms:  client ── front ── director ── back ── servers      one arm:  client ──┐
//	                       └──── (replies from a VIP) ───┘                  director ── lan ── servers
type Topology struct {
	*Net
	Client   *Host
	Director *Namespace
	Servers  []*Host
	// The director's interface towards the client and the one towards the servers; with one arm they are the same.
	Front, Back *Device
	// The switch's ports that they are connected to.
	FrontPort, BackPort *Device
}

// Host is a client or a server.
type Host struct {
	*Namespace
	IP, IP6 netip.Addr
	Dev     *Device
	// Direct is the interface that a server's packets from a VIP leave by: Dev with one arm.
	Direct *Device
}

// Interfaces returns the names of the director's interfaces.
func (t *Topology) Interfaces() []string {
	if t.Front == t.Back {
		return []string{t.Front.Name}
	}
	return []string{t.Front.Name, t.Back.Name}
}

// NewTopology builds what the plan says in an empty network.
func NewTopology(n *Net, plan Plan) *Topology {
	n.t.Helper()
	if plan.Servers == 0 {
		plan.Servers = 3
	}
	if plan.Queues == 0 {
		plan.Queues = 1
	}
	frontMTU, backMTU := plan.MTU, plan.MTU
	if plan.MTU == 0 {
		frontMTU, backMTU = 1500, ServerMTU
	}
	t := &Topology{Net: n, Director: n.Namespace("director")}
	t.Director.Forward()
	sw := n.Namespace("switch")
	front, back := "front", "back"
	if plan.OneArm {
		front, back = "lan", "lan"
	} else {
		sw.Bridge(back)
	}
	sw.Bridge(front)

	frontAddrs, backAddrs := []string{DirectorIP + "/24", DirectorIP6 + "/64"}, []string{DIP + "/24", DIP6 + "/64"}
	if plan.OneArm {
		t.Front, t.FrontPort = n.Veth(End{NS: t.Director, Addrs: append(frontAddrs, backAddrs...), MTU: backMTU},
			End{NS: sw, Name: "director", Bridge: front, MTU: backMTU}, plan.Queues)
		t.Back, t.BackPort = t.Front, t.FrontPort
	} else {
		t.Front, t.FrontPort = n.Veth(End{NS: t.Director, Addrs: frontAddrs, MTU: frontMTU},
			End{NS: sw, Name: "director0", Bridge: front, MTU: frontMTU}, plan.Queues)
		t.Back, t.BackPort = n.Veth(End{NS: t.Director, Name: "eth1", Addrs: backAddrs, MTU: backMTU},
			End{NS: sw, Name: "director1", Bridge: back, MTU: backMTU}, plan.Queues)
	}

	client := &Host{Namespace: n.Namespace("client"), IP: netip.MustParseAddr(ClientIP), IP6: netip.MustParseAddr(ClientIP6)}
	client.Dev, _ = n.Veth(End{NS: client.Namespace, Addrs: []string{ClientIP + "/24", ClientIP6 + "/64"}, MTU: frontMTU},
		End{NS: sw, Name: "client", Bridge: front, MTU: frontMTU})
	client.Direct = client.Dev
	client.Route("0.0.0.0/0", DirectorIP)
	client.Route("::/0", DirectorIP6)
	client.Sysctl("net.ipv4.ip_local_port_range", "1024 65535")
	t.Client = client

	for i := range plan.Servers {
		t.Servers = append(t.Servers, t.addServer(i, plan, sw, front, back, frontMTU, backMTU))
	}
	return t
}

func (t *Topology) addServer(i int, plan Plan, sw *Namespace, front, back string, frontMTU, backMTU int) *Host {
	name := fmt.Sprintf("server%d", i+1)
	s := &Host{Namespace: t.Namespace(name), IP: netip.AddrFrom4([4]byte{10, 0, 0, byte(11 + i)}),
		IP6: netip.MustParseAddr(fmt.Sprintf("fd00:10::%d", 11+i))}
	s.Dev, _ = t.Veth(End{NS: s.Namespace, Addrs: []string{s.IP.String() + "/24", s.IP6.String() + "/64"}, MTU: backMTU},
		End{NS: sw, Name: name, Bridge: back, MTU: backMTU})
	s.Direct = s.Dev
	if !plan.OneArm {
		// Addresses of their own, so that neighbours can be asked, without the networks: only what comes from a VIP goes this way.
		s.Direct, _ = t.Veth(End{NS: s.Namespace, Name: "eth1", Addrs: []string{fmt.Sprintf("192.0.2.%d/32", 201+i), fmt.Sprintf("2001:db8::%d/128", 201+i)}, MTU: frontMTU},
			End{NS: sw, Name: name + "-direct", Bridge: front, MTU: frontMTU})
	}
	s.Route("0.0.0.0/0", DIP)
	s.Route("::/0", DIP6)
	// As LVS asks of DR servers (Documentation/networking/ip-sysctl): VIPs on lo are neither answered for nor announced.
	s.Sysctl("net.ipv4.conf.all.arp_ignore", "1")
	s.Sysctl("net.ipv4.conf.all.arp_announce", "2")
	for _, v := range plan.VIPs {
		vip := netip.MustParseAddr(v)
		s.AddAddr("lo", netip.PrefixFrom(vip, vip.BitLen()).String())
		clients := ClientNet
		if vip.Is6() {
			clients = ClientNet6
		}
		s.RouteFrom(vip, clients, s.Direct.Name)
	}
	return s
}
