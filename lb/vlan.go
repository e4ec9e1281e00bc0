package lb

import (
	"fmt"
	"strings"
)

// VLANs are the VLAN tags of a frame, two at most, as one word: each is 12 bits of ID, whether it is a service tag (802.1ad) and that it is
// there at all, the outermost in the lowest bits. Priorities are not part of it. The zero value is an untagged frame.
type VLANs uint32

// EtherTypes of tags (IEEE 802.1Q clause 9.4).
const (
	CustomerTag = 0x8100
	ServiceTag  = 0x88a8
)

const (
	vlanBits    = 14
	vlanID      = 0xfff
	vlanService = 1 << 12
	vlanPresent = 1 << 13
)

// MaxVLANs is how many tags a frame may have.
const MaxVLANs = 2

// Push adds a tag inside those there are; Len of v must be below MaxVLANs.
func (v VLANs) Push(etherType, id uint16) VLANs {
	tag := vlanPresent | VLANs(id)&vlanID
	if etherType == ServiceTag {
		tag |= vlanService
	}
	return v | tag<<(vlanBits*v.Len())
}

// Len returns how many tags there are.
func (v VLANs) Len() int {
	switch {
	case v == 0:
		return 0
	case v>>vlanBits == 0:
		return 1
	}
	return 2
}

// Tag returns the tag at place i, counted from the outermost, which must be below Len.
func (v VLANs) Tag(i int) (etherType, id uint16) {
	tag := v >> (vlanBits * i)
	if tag&vlanService != 0 {
		return ServiceTag, uint16(tag & vlanID)
	}
	return CustomerTag, uint16(tag & vlanID)
}

// String returns the tags as "10", "10.20", or "10ad.20" with a service tag; "" for none.
func (v VLANs) String() string {
	var tags []string
	for i := range v.Len() {
		etherType, id := v.Tag(i)
		tag := fmt.Sprint(id)
		if etherType == ServiceTag {
			tag += "ad"
		}
		tags = append(tags, tag)
	}
	return strings.Join(tags, ".")
}
