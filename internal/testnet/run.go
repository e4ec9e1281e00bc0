package testnet

import (
	"fmt"
	"slices"
)

// Run lends f a Reporter outside of a test: what f's goroutine reports by Fatalf ends f and is returned as Run's error, and the cleanups run
// in any case, latest first.
func Run(f func(Reporter) error) (err error) {
	p := &program{}
	defer p.cleanUp()
	defer func() {
		if r := recover(); r != nil {
			failed, ok := r.(failure)
			if !ok {
				panic(r)
			}
			err = failed
		}
	}()
	return f(p)
}

// program is a Reporter whose test is a program. Fatalf leaves it by a panic that Run catches.
type program struct{ cleanups []func() }

type failure struct{ error }

func (p *program) Helper()                           {}
func (p *program) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }
func (p *program) Cleanup(f func())                  { p.cleanups = append(p.cleanups, f) }

func (p *program) cleanUp() {
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
}
