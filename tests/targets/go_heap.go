// Allocates through a method, a method of a generic type, a generic function and a closure, and
// writes Go's own heap profiles into the folder that is its argument: heap.pb.gz, allocs.pb.gz and
// heap.txt.
package main

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

type Store struct{ rows [][]byte }

//go:noinline
func (s *Store) Load(n, size int) {
	for i := 0; i < n; i++ {
		s.rows = append(s.rows, make([]byte, size))
	}
}

type Stack[T any] struct{ items []*[64]T }

//go:noinline
func (s *Stack[T]) Push(n int) {
	for i := 0; i < n; i++ {
		s.items = append(s.items, new([64]T))
	}
}

//go:noinline
func Fill[T any](n int) [][]T {
	var out [][]T
	for i := 0; i < n; i++ {
		out = append(out, make([]T, 300))
	}
	return out
}

// The name of this one ends as those do that compilers give to cold parts.
//
//go:noinline
func cold(n int) []byte { return make([]byte, n) }

//go:noinline
func churn(n int) {
	for i := 0; i < n; i++ {
		sink = make([]byte, 4000)
	}
}

var sink []byte
var kept []interface{}

func write(name string, path string, debug int) {
	file, err := os.Create(path)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	if err := pprof.Lookup(name).WriteTo(file, debug); err != nil {
		panic(err)
	}
}

func main() {
	store, stack := &Store{}, &Stack[int64]{}
	store.Load(2000, 5000)
	stack.Push(10000)
	kept = append(kept, store, stack, Fill[string](700), Fill[int32](900), cold(4<<20))
	func() { kept = append(kept, make([]byte, 3<<20)) }()
	churn(20000)
	// What was freed counts only after a second collection.
	runtime.GC()
	runtime.GC()
	write("heap", filepath.Join(os.Args[1], "heap.pb.gz"), 0)
	write("allocs", filepath.Join(os.Args[1], "allocs.pb.gz"), 0)
	write("heap", filepath.Join(os.Args[1], "heap.txt"), 1)
	runtime.KeepAlive(kept)
}
