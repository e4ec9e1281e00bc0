package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

// slowChange is what quickChange must agree with.
func slowChange(body []byte) (c Change, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err = d.Decode(&c); err == nil {
		if _, more := d.Token(); more == nil {
			err = fmt.Errorf("something follows")
		}
	}
	return c, err
}

func FuzzQuickChange(f *testing.F) {
	for _, s := range []string{
		`{"commands":[["-A","-t","192.0.2.10:80"],["-C"]]}`, `{"commands":[["-C"]],"atomic":true}`, `{"commands":[["-C"]],"atomic":false}` + "\n",
		`{"commands":[]}`, `{"commands":[[]]}`, `{"commands":[["a\"b"]]}`, `{"commands":[["ä"]]}`, `{"commands":[["a",]]}`, `{"commands":[["a"],]}`,
		`{"commands":[,["a"]]}`, `{"commands":[["a"]["b"]]}`, `{"commands":[["a" "b"]]}`, `{"commands":[["a"]]}}`, `{"commands":[["a"]],"atomic":1}`,
		`{"atomic":true,"commands":[["a"]]}`, `{"commands":[["a`, `{"commands":[["a"`, `{"commands":[["a"]`, `{"commands":`, ``, `{"commands":[[1]]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, ok := quickChange(body)
		if !ok {
			return
		}
		want, err := slowChange(body)
		if err != nil {
			t.Fatalf("%s: taken, but %v", body, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %v, want %v", body, got, want)
		}
	})
}

func TestTheClientsChangesAreReadQuickly(t *testing.T) {
	for _, want := range []Change{
		{Commands: [][]string{{"-A", "-t", "[2001:db8::1]:80"}, {"-C"}}}, {Commands: [][]string{{"-C"}}, Atomic: true}, {Commands: [][]string{}},
	} {
		body, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := quickChange(body); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", body, got, ok)
		}
	}
}

func BenchmarkReadChange(b *testing.B) {
	var c Change
	for i := range 10_000 {
		c.Commands = append(c.Commands, []string{"-a", "-t", fmt.Sprintf("192.0.2.%d:80", i%256), "-r", fmt.Sprintf("10.0.%d.%d:8080", i/256, i%256), "-m", "-w", "5"})
	}
	body, err := json.Marshal(c)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("quick", func(b *testing.B) {
		for b.Loop() {
			if _, ok := quickChange(body); !ok {
				b.Fatal("not taken")
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		for b.Loop() {
			if _, err := slowChange(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}
