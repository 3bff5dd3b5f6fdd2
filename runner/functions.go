// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/funcx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
)

// checkFunctions refuses what the Go SDK cannot carry from the program to a worker. It sends a
// function as the name of its symbol and builds it anew from the code alone: the variables that a
// function literal captures are lost, and it would compute with whatever lies in their place.
func checkFunctions(edges []*graph.MultiEdge) error {
	var errs []error
	for _, edge := range edges {
		for _, fn := range userFns(edge) {
			if fn.Fn == nil || fn.DynFn != nil {
				continue
			}
			if err := checkFunction(fn.Fn); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", edge.Name(), err))
			}
		}
	}
	return errors.Join(errs...)
}

func userFns(edge *graph.MultiEdge) []*graph.Fn {
	var fns []*graph.Fn
	if edge.DoFn != nil {
		fns = append(fns, (*graph.Fn)(edge.DoFn))
	}
	if edge.CombineFn != nil {
		fns = append(fns, (*graph.Fn)(edge.CombineFn))
	}
	return fns
}

func checkFunction(fn *funcx.Fn) error {
	if captures(fn.Fn.Interface()) {
		return errors.New("the function literal captures variables, which are lost on the way to a worker: " +
			"use a struct with exported fields as DoFn, and register it with beam/register")
	}
	if _, err := runtime.ResolveFunction(fn.Fn.Name(), fn.Fn.Type()); err != nil {
		return fmt.Errorf("the function cannot be found by its name: register it in init with beam/register (%w)", err)
	}
	return nil
}

// static is a function value that captures nothing. The linker puts all of those side by side.
var static any = captures

// sameImage is a bound on the distance of two objects of one program image. The heap is further
// away from it on every platform that Go supports in 64 bits.
const sameImage = 1 << 30

// captures tells whether the function value fn carries variables with it: then it was made at run
// time, on the heap, while one that carries nothing is part of the program's image.
func captures(fn any) bool {
	if reflect.TypeOf(fn).Kind() != reflect.Func {
		return false
	}
	a, b := funcValue(fn), funcValue(static)
	return max(a, b)-min(a, b) > sameImage
}

// funcValue returns the address of what a function value points to: the code's address followed by
// the captured variables. It is the data word of the interface.
func funcValue(fn any) uintptr {
	return (*[2]uintptr)(unsafe.Pointer(&fn))[1]
}
