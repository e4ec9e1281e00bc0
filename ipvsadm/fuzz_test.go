package ipvsadm

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// seeds are the recorded command lines, and what -S printed.
func seeds(f *testing.F) (lines, files []string) {
	for _, g := range readRecording(f).Groups {
		var all []string
		all = append(all, g.Setup...)
		for _, c := range g.Commands {
			all = append(all, c.Args)
			if strings.HasPrefix(c.Args, "-S") && c.Exit == 0 {
				files = append(files, c.Stdout)
			}
		}
		lines = append(lines, all...)
		files = append(files, strings.Join(all, "\n"))
	}
	return lines, append(files, strings.Join(sample, "\n"))
}

// Whatever is typed: a command or one clear line, never a panic.
func FuzzParse(f *testing.F) {
	lines, _ := seeds(f)
	for _, line := range lines {
		f.Add(strings.ReplaceAll(line, " ", "\x00"))
	}
	f.Fuzz(func(t *testing.T, words string) {
		c, err := parse(strings.Split(words, "\x00"), 1, testServices())
		if err == nil {
			err = c.Unsupported()
		}
		if err == nil {
			err = new(Rules).Apply(c)
		}
		if err == nil {
			return
		}
		e := (*Error)(nil)
		if !errors.As(err, &e) || e.Text == "" || e.Status != 1 && e.Status != 2 && e.Status != 255 {
			t.Fatalf("%q: %#v", words, err)
		}
		if msg := e.Error(); strings.ContainsAny(msg, "\n\r\x00") || len(msg) > 2000+8*len(words) {
			t.Fatalf("%q: %q", words, msg)
		}
	})
}

// What is read and applied, and written, is read back to the same; and -S of it, read back, prints the same.
func FuzzParseFile(f *testing.F) {
	_, files := seeds(f)
	for _, file := range files {
		f.Add([]byte(file))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		commands, problems := parseFile("f", bytes.NewReader(file), testServices())
		if len(problems) > maxProblems || len(commands)+len(problems) > 2+bytes.Count(file, []byte("\n")) {
			t.Fatalf("%d commands and %d problems in %d bytes", len(commands), len(problems), len(file))
		}
		var r Rules
		for _, c := range commands {
			_ = c.Unsupported()
			_ = r.apply(c) // the model takes all that ipvsadm can do
		}

		var all bytes.Buffer
		if _, err := r.WriteTo(&all); err != nil {
			t.Fatal(err)
		}
		if back := readBack(t, all.String()); !reflect.DeepEqual(back.Listing(), r.Listing()) {
			t.Fatalf("WriteTo wrote\n%s\nread back:\n%+v\nwas:\n%+v", &all, back.Listing(), r.Listing())
		}
		for _, numeric := range []bool{true, false} {
			first := saved(t, &r, numeric)
			if second := saved(t, readBack(t, first), numeric); first != second {
				t.Fatalf("-S prints\n%s\nand read back\n%s", first, second)
			}
		}
	})
}

func readBack(t *testing.T, file string) *Rules {
	commands, problems := parseFile("back", strings.NewReader(file), testServices())
	if len(problems) != 0 {
		t.Fatalf("%s\n%v", file, problems)
	}
	r := &Rules{}
	for _, c := range commands {
		if err := r.apply(c); err != nil {
			t.Fatalf("%s\n%v", file, err)
		}
	}
	return r
}

func saved(t *testing.T, r *Rules, numeric bool) string {
	var out bytes.Buffer
	if err := save(&out, r.Listing(), numeric, testServices()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
