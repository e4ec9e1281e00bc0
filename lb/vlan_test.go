package lb

import "testing"

func TestVLANs(t *testing.T) {
	for _, row := range []struct {
		tags []uint16 // EtherType and ID, outermost first
		want string
	}{
		{nil, ""},
		{[]uint16{CustomerTag, 10}, "10"},
		{[]uint16{CustomerTag, 0}, "0"}, // a tag that only says a priority
		{[]uint16{ServiceTag, 4095}, "4095ad"},
		{[]uint16{CustomerTag, 0, CustomerTag, 0}, "0.0"},
		{[]uint16{ServiceTag, 4094, CustomerTag, 1}, "4094ad.1"},
		{[]uint16{CustomerTag, 1, ServiceTag, 4094}, "1.4094ad"},
	} {
		var v VLANs
		for i := 0; i < len(row.tags); i += 2 {
			v = v.Push(row.tags[i], row.tags[i+1])
		}
		if v.String() != row.want || v.Len() != len(row.tags)/2 || (v == 0) != (row.tags == nil) {
			t.Errorf("%v: %q, %d tags", row.tags, v, v.Len())
		}
		for i := range v.Len() {
			if etherType, id := v.Tag(i); etherType != row.tags[2*i] || id != row.tags[2*i+1] {
				t.Errorf("%v: tag %d is %#x %d", row.tags, i, etherType, id)
			}
		}
	}
}
