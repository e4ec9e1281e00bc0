package paths

import (
	"testing"

	"weir/internal/testnet"
)

func TestInterfaceFacts(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	a, b := n.Namespace("a"), n.Namespace("b")
	a.Bridge("br0")
	d, far := n.Veth(testnet.End{NS: a, Name: "p0", MTU: 1600, Bridge: "br0"}, testnet.End{NS: b, MTU: 1600}, 4)
	var got Interface
	err := a.Do(func() (err error) {
		got, err = InterfaceByName("p0")
		return err
	})
	want := Interface{Index: d.Index, Name: "p0", Kind: "veth", Driver: "veth", MAC: mac(d), MTU: 1600, Up: true, OperState: "up",
		Ethernet: true, RxQueues: 4, TxQueues: 4, Master: "br0", MasterKind: "bridge"}
	if err != nil || got != want {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
	if out, err := a.Run("ethtool", "-K", "p0", "rxvlan", "on"); err != nil {
		t.Fatal(err, out)
	}
	err = a.Do(func() (err error) {
		got, err = InterfaceByName("p0")
		return err
	})
	if err != nil || got.HidesTags != "rx-vlan-hw-parse" {
		t.Errorf("%v: tags are hidden by %q", err, got.HidesTags)
	}
	// What is in use counts, not what the device was made with.
	if out, err := a.Run("ethtool", "-L", "p0", "rx", "3", "tx", "2"); err != nil {
		t.Fatal(err, out)
	}
	far.SetUp(false)
	testnet.Eventually(t, limit, "without carrier", func() bool { // the kernel's linkwatch takes its time
		err = a.Do(func() (err error) {
			got, err = InterfaceByName("p0")
			return err
		})
		return err != nil || got.OperState != "up"
	})
	if err != nil || got.RxQueues != 3 || got.TxQueues != 2 || got.OperState != "down" || !got.Up {
		t.Errorf("%v %+v", err, got)
	}
	var all []Interface
	err = a.Do(func() (err error) {
		if all, err = Interfaces(); err == nil {
			_, err = InterfaceByName("eth9")
		}
		return err
	})
	if err == nil || err.Error() != "no interface eth9; there are lo, br0, p0" {
		t.Errorf("error %v", err)
	}
	if len(all) != 3 || all[0].Name != "lo" || all[0].Ethernet || all[1].Kind != "bridge" || all[1].RxQueues < 1 {
		t.Errorf("interfaces %+v", all)
	}
}
