package dataplane

// SmallCapture is Shared.Capture with rings of another size.
func SmallCapture(s *Shared, f CaptureFilter, snap, ring int) (*Capture, error) {
	return s.capture(f, snap, ring)
}
