package pcapng

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"weir/dataplane"
	"weir/dataplane/reason"
)

func TestAFileHasFramesTheirPlacesAndWhatIsMissing(t *testing.T) {
	var file bytes.Buffer
	w, err := New(&file, Options{Interfaces: []string{"eth0", "eth1"}, Snap: 96, Filter: "protocol=tcp", Application: "weir test"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 1, 2, 3, 456789012, time.UTC)
	frames := []struct {
		frame dataplane.CapturedFrame
		iface string
	}{
		{dataplane.CapturedFrame{Iface: 1, Length: 14, Data: make([]byte, 14)}, "eth1 in"},
		{dataplane.CapturedFrame{Iface: 0, Out: true, Length: 1514, Data: make([]byte, 96)}, "eth0 out"},
		{dataplane.CapturedFrame{Iface: 0, Why: reason.TableFull, Length: 15, Data: make([]byte, 15)}, "eth0 in table-full"},
		{dataplane.CapturedFrame{Iface: 1, Out: true, Why: reason.NoTxRoom, Length: 60, Data: make([]byte, 60)}, "eth1 out no-tx-room"},
		{dataplane.CapturedFrame{Iface: 0, Why: reason.TableFull, Length: 16, Data: make([]byte, 16)}, "eth0 in table-full"},
	}
	for i := range frames {
		f := &frames[i].frame
		f.Time = at.Add(time.Duration(i)).UnixNano()
		for k := range f.Data {
			f.Data[k] = byte(i + k)
		}
		if err := w.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.End(func(iface int, out bool) uint64 {
		if iface == 1 && !out {
			return 41
		}
		return 0
	}); err != nil {
		t.Fatal(err)
	}

	r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range frames {
		want := &frames[i].frame
		data, info, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name != frames[i].iface || f.SnapLength != 96 || f.Description == "" || f.Filter != "protocol=tcp" {
			t.Errorf("frame %d came by %+v, want %s", i, f, frames[i].iface)
		}
		if !bytes.Equal(data, want.Data) || info.Length != want.Length || info.Timestamp.UnixNano() != want.Time {
			t.Errorf("frame %d: %+v %x, want %+v", i, info, data, want)
		}
	}
	if _, _, err := r.ReadPacketData(); err != io.EOF {
		t.Errorf("behind the last frame: %v", err)
	}
	if r.SectionInfo().Application != "weir test" {
		t.Errorf("%+v", r.SectionInfo())
	}
	for i := range r.NInterfaces() {
		f, err := r.Interface(i)
		if err != nil {
			t.Fatal(err)
		}
		received, dropped := map[string]uint64{"eth1 in": 42, "eth0 out": 1, "eth0 in table-full": 2, "eth1 out no-tx-room": 1}[f.Name], uint64(0)
		if f.Name == "eth1 in" {
			dropped = 41
		}
		if f.Statistics.PacketsReceived != received || f.Statistics.PacketsDropped != dropped {
			t.Errorf("%s: %+v", f.Name, f.Statistics)
		}
	}
}
