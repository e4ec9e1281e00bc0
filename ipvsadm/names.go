package ipvsadm

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"weir/lb"
)

// serviceNames are the port names of /etc/services (services(5)), both ways. Nil knows none.
type serviceNames struct {
	ports map[portName]uint16
	names map[portNumber]string
}

type portName struct {
	name  string
	proto lb.Proto
}

type portNumber struct {
	port  uint16
	proto lb.Proto
}

// etcServices returns the names of this machine, read once; a machine without the file has none.
var etcServices = sync.OnceValue(func() *serviceNames {
	f, err := os.Open("/etc/services")
	if err != nil {
		return nil
	}
	defer f.Close()
	return readServices(io.LimitReader(f, 4<<20))
})

// readServices reads "name port/proto alias..." lines; of several entries the first counts, as in getservbyname(3).
func readServices(r io.Reader) *serviceNames {
	s := &serviceNames{map[portName]uint16{}, map[portNumber]string{}}
	protos := map[string]lb.Proto{"tcp": lb.TCP, "udp": lb.UDP, "sctp": lb.SCTP}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		number, protoName, _ := strings.Cut(fields[1], "/")
		port, err := strconv.ParseUint(number, 10, 16)
		proto, known := protos[protoName]
		if err != nil || !known {
			continue
		}
		if key := (portNumber{uint16(port), proto}); s.names[key] == "" {
			s.names[key] = fields[0]
		}
		for i, name := range fields {
			if key := (portName{name, proto}); i != 1 {
				if _, dup := s.ports[key]; !dup {
					s.ports[key] = uint16(port)
				}
			}
		}
	}
	return s
}

// namingProto is the protocol by which the ports of a service's servers are named. A mark has none; ipvsadm takes TCP.
func namingProto(k lb.ServiceKey) lb.Proto {
	if k.Mark != 0 {
		return lb.TCP
	}
	return k.Proto
}

func (s *serviceNames) port(name string, proto lb.Proto) (int64, bool) {
	if s == nil {
		return 0, false
	}
	port, ok := s.ports[portName{name, proto}]
	return int64(port), ok
}

// name returns the name of a port, or its number.
func (s *serviceNames) name(port uint16, proto lb.Proto) string {
	if s != nil {
		if name := s.names[portNumber{port, proto}]; name != "" {
			return name
		}
	}
	return strconv.Itoa(int(port))
}
