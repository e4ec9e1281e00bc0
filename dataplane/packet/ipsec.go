package packet

import "weir/lb"

// Protocol numbers of IPsec (RFC 4303, RFC 4302).
const (
	ESP lb.Proto = 50
	AH  lb.Proto = 51
)

// isakmp is the port that both ends of an ISAKMP exchange use (RFC 7296 section 2).
const isakmp = 500

// IsIPsec reports whether a protocol is AH or ESP, whose packets have no ports to see.
func IsIPsec(proto lb.Proto) bool { return proto == ESP || proto == AH }

// ConnFlow returns the flow that the connection of f's packets is found by: f itself, but of AH and ESP that of the ISAKMP exchange which
// agreed on their keys (ip_vs_proto_ah_esp.c, ah_esp_conn_fill_param_proto).
func ConnFlow(f lb.Flow) lb.Flow {
	if IsIPsec(f.Proto) {
		f.SrcPort, f.DstPort, f.Proto = isakmp, isakmp, lb.UDP
	}
	return f
}
