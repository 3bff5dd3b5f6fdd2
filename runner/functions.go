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
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/typex"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/reflectx"
)

// checkFunctions refuses what the Go SDK cannot carry from the program to a worker. It sends a
// function as the name of its symbol and builds it anew from the code alone: the variables that a
// function literal captures are lost, and it would compute with whatever lies in their place.
func checkFunctions(edges []*graph.MultiEdge) error {
	var errs []error
	for _, edge := range edges {
		if err := checkGroup(edge); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", edge.Name(), err))
		}
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

// checkGroup refuses a parameter for which the Go SDK decodes the groups of GroupByKey in another
// form than the one it then gives to the function, which ends in a panic. Those of CoGroupByKey with
// several streams are as they should be.
func checkGroup(edge *graph.MultiEdge) error {
	if edge.Op != graph.ParDo || len(edge.Input) == 0 {
		return nil
	}
	group := edge.Input[0].From.Type()
	if !typex.IsCoGBK(group) || len(group.Components()) != 2 {
		return nil
	}
	fn := edge.DoFn.ProcessElementFn()
	params := fn.Params(funcx.FnValue | funcx.FnIter | funcx.FnReIter)
	if len(params) < 2 || fn.Param[params[1]].Kind != funcx.FnReIter {
		return nil
	}
	t := fn.Param[params[1]].T
	return fmt.Errorf("the Go SDK cannot give a group of GroupByKey as %v: take it as %v, and keep the values if they are needed twice", t, t.Out(0))
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
	resolved, err := runtime.ResolveFunction(fn.Fn.Name(), fn.Fn.Type())
	if err != nil {
		return fmt.Errorf("the function cannot be found by its name: register it in init with beam/register (%w)", err)
	}
	value, ok := functionOf(fn.Fn)
	if !ok || funcWord(value) == funcWord(resolved) || !captures(value) {
		return nil
	}
	return errors.New("the function literal captures variables, which are lost on the way to a worker: " +
		"use a struct with exported fields as DoFn, and register it with beam/register")
}

// functionOf returns the Go function inside a reflectx.Func, which has no method for it.
func functionOf(fn reflectx.Func) (any, bool) {
	v := reflect.ValueOf(fn)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, false
	}
	for i := range v.Elem().NumField() {
		field := v.Elem().Field(i)
		at := unsafe.Pointer(field.UnsafeAddr())
		switch {
		case field.Kind() == reflect.Func:
			return reflect.NewAt(field.Type(), at).Elem().Interface(), true
		case field.Type() == reflect.TypeFor[reflect.Value]():
			if inner := (*reflect.Value)(at); inner.Kind() == reflect.Func {
				return inner.Interface(), true
			}
		}
	}
	return nil, false
}

// sameImage is a bound on the distance of two objects of one program image. The heap is further
// away from it on every platform that Go supports in 64 bits.
const sameImage = 1 << 30

// captures tells whether the function value fn carries variables with it: then it was made at run
// time, on the heap, while one that carries nothing is part of the program's image.
func captures(fn any) bool {
	a, b := funcWord(fn), funcWord(checkFunction)
	return max(a, b)-min(a, b) > sameImage
}

// funcWord returns the address of what a function value points to: the code's address followed by
// the captured variables. It is the data word of the interface.
func funcWord(fn any) uintptr {
	return (*[2]uintptr)(unsafe.Pointer(&fn))[1]
}
