//go:build amd64 || arm64

package dataplane

// fetch has the first cache line of every frame's packet brought near, and does not wait for it. Another CPU wrote it last, as a rule: the driver's, or
// the kernel's that copied it. In assembly for one instruction that Go cannot say, a load that nobody waits for.
//
//go:noescape
func fetch(frames []Frame)
