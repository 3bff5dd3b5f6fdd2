// SPDX-License-Identifier: Apache-2.0

// Package urn names the parts of the Beam model that the runner knows, by their URNs.
package urn

// Transforms.
const (
	Impulse       = "beam:transform:impulse:v1"
	ParDo         = "beam:transform:pardo:v1"
	Flatten       = "beam:transform:flatten:v1"
	GroupByKey    = "beam:transform:group_by_key:v1"
	Reshuffle     = "beam:transform:reshuffle:v1"
	WindowInto    = "beam:transform:window_into:v1"
	MapWindows    = "beam:transform:map_windows:v1"
	ToString      = "beam:transform:to_string:v1"
	TestStream    = "beam:transform:teststream:v1"
	CombinePerKey = "beam:transform:combine_per_key:v1"

	CombinePrecombine = "beam:transform:combine_per_key_precombine:v1"
	CombineMerge      = "beam:transform:combine_per_key_merge_accumulators:v1"
	CombineExtract    = "beam:transform:combine_per_key_extract_outputs:v1"
	CombineConvert    = "beam:transform:combine_per_key_convert_to_accumulators:v1"
	CombineGrouped    = "beam:transform:combine_grouped_values:v1"

	SplittablePair    = "beam:transform:sdf_pair_with_restriction:v1"
	SplittableSplit   = "beam:transform:sdf_split_and_size_restrictions:v1"
	SplittableProcess = "beam:transform:sdf_process_sized_element_and_restrictions:v1"

	RunnerSource = "beam:runner:source:v1"
	RunnerSink   = "beam:runner:sink:v1"
)

// Coders.
const (
	CoderBytes          = "beam:coder:bytes:v1"
	CoderString         = "beam:coder:string_utf8:v1"
	CoderBool           = "beam:coder:bool:v1"
	CoderVarInt         = "beam:coder:varint:v1"
	CoderDouble         = "beam:coder:double:v1"
	CoderLengthPrefix   = "beam:coder:length_prefix:v1"
	CoderKV             = "beam:coder:kv:v1"
	CoderIterable       = "beam:coder:iterable:v1"
	CoderNullable       = "beam:coder:nullable:v1"
	CoderTimer          = "beam:coder:timer:v1"
	CoderRow            = "beam:coder:row:v1"
	CoderWindowedValue  = "beam:coder:windowed_value:v1"
	CoderGlobalWindow   = "beam:coder:global_window:v1"
	CoderIntervalWindow = "beam:coder:interval_window:v1"
)

// WindowFns.
const (
	GlobalWindows  = "beam:window_fn:global_windows:v1"
	FixedWindows   = "beam:window_fn:fixed_windows:v1"
	SlidingWindows = "beam:window_fn:sliding_windows:v1"
	SessionWindows = "beam:window_fn:session_windows:v1"
)

// Access patterns of side inputs.
const (
	SideInputIterable = "beam:side_input:iterable:v1"
	SideInputMultimap = "beam:side_input:multimap:v1"
)

// Requirements that a pipeline states.
const (
	RequiresSplittable       = "beam:requirement:pardo:splittable_dofn:v1"
	RequiresFinalization     = "beam:requirement:pardo:finalization:v1"
	RequiresState            = "beam:requirement:pardo:stateful:v1"
	RequiresStableInput      = "beam:requirement:pardo:stable_input:v1"
	RequiresSortedInput      = "beam:requirement:pardo:time_sorted_input:v1"
	RequiresWindowExpiration = "beam:requirement:pardo:on_window_expiration:v1"
)

// Protocols of user state.
const (
	StateBag         = "beam:user_state:bag:v1"
	StateMultimap    = "beam:user_state:multimap:v1"
	StateOrderedList = "beam:user_state:ordered_list:v1"
)

// Functions of the Go SDK.
const (
	GoDoFn     = "beam:go:transform:dofn:v1"
	GoInject   = "beam:go:transform:inject:v1"
	GoExpand   = "beam:go:transform:expand:v1"
	GoFixedKey = "beam:go:transform:iterablesideinputkey:v1"
)

// Window mappings of side inputs of the Go SDK.
const (
	MapToGlobal  = "beam:go:windowmapping:global:v1"
	MapToFixed   = "beam:go:windowmapping:fixed:v1"
	MapToSliding = "beam:go:windowmapping:sliding:v1"
)
