// SPDX-License-Identifier: Apache-2.0

package units

import (
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestDecimal(t *testing.T) {
	for _, c := range []struct{ value, from, to, want string }{
		{"212", "[degF]", "Cel", "100"},
		{"32", "[degF]", "Cel", "0"},
		{"-40", "[degF]", "Cel", "-40"},
		{"98.6", "[degF]", "Cel", "37"},
		{"72.5", "[degF]", "Cel", "22.5"},
		{"98.7", "[degF]", "Cel", "37.0555555555556"},
		{"451", "[degF]", "Cel", "232.777777777778"},
		{"-459.67", "[degF]", "Cel", "-273.15"},
		{"-459.67", "[degF]", "K", "0"},
		{"0", "K", "Cel", "-273.15"},
		{"0", "Cel", "K", "273.15"},
		{"25", "mCel", "K", "273.175"},
		{"80", "[degRe]", "Cel", "100"},
		{"100", "Cel", "[degRe]", "80"},
		{"100", "Cel", "[degF]", "212"},
		{"491.67", "[degR]", "Cel", "0"},
		{"1", "[degR]", "K", "0.555555555555556"},
		{"+1.50e1", "Cel", "Cel", "15"},
		{"-0.0", "Cel", "Cel", "0"},
		{"1e-9", "m", "m", "0.000000001"},
		{"1", "[psi]", "kPa", "6.89475729316836"},
		{"760", "mm[Hg]", "Pa", "101325.0144354"},
		{"1", "[in_i]", "cm", "2.54"},
		{"0.55", "1", "%", "55"},
		{"1", "[ppm]", "[ppb]", "1000"},
		{"36", "km/h", "m/s", "10"},
		{"1", "kW.h", "MJ", "3.6"},
		{"1", "t", "kg", "1000"},
		{"nan", "Cel", "K", "NAN"},
		{"-Inf", "Cel", "K", "NAN"},
		{"", "Cel", "K", "PARSE"},
		{"12,5", "Cel", "K", "PARSE"},
		{"0x10", "Cel", "K", "PARSE"},
		{"1/3", "Cel", "K", "PARSE"},
		{"1e", "Cel", "K", "PARSE"},
		{"1e999999999999", "Cel", "K", "PARSE"},
		{" 1", "Cel", "K", "PARSE"},
		{".", "Cel", "K", "PARSE"},
		{"-459.68", "[degF]", "Cel", "BELOW_ABS_ZERO"},
		{"-0.001", "K", "K", "BELOW_ABS_ZERO"},
		{"-273.151", "Cel", "Cel", "BELOW_ABS_ZERO"},
		{"1", "Pa", "Cel", "DIMENSION"},
		{"1", "", "Cel", "EMPTY_UNIT"},
		{"1", "F", "Cel", "UNKNOWN_UNIT"},
		{"1", "psig", "kPa", "UNKNOWN_UNIT"},
		{"10", "ug/m3", "[ppb]", "DIMENSION"},
	} {
		if got := convert(c.value, c.from, c.to, NewConv); got != c.want {
			t.Errorf("%s %s -> %s: got %s, want %s", c.value, c.from, c.to, got, c.want)
		}
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct{ value, from, to, want string }{
		{"12.3", "K", "[degR]", "22.14"},
		{"-5", "K", "[degR]", "-9"},
		{"5", "Cel", "[degR]", "DIFFERENCE"},
		{"5", "K", "[degF]", "DIFFERENCE"},
	} {
		if got := convert(c.value, c.from, c.to, NewDifference); got != c.want {
			t.Errorf("%s %s -> %s: got %s, want %s", c.value, c.from, c.to, got, c.want)
		}
	}
}

// A difference of temperatures is not a temperature, and Rankine is a ratio unit (FC-13); nothing of a
// quantity is guessed (FC-14). Exact results are fractions.
func TestQuantitiesAreNotGuessed(t *testing.T) {
	points, differences := NewConv, NewDifference
	for _, c := range []struct {
		value, from, to string
		conv            func(Unit, Unit) (*Conv, error)
		want            string // A fraction, or a code and a part of the text.
	}{
		{"12.3", "K", "[degR]", differences, "1107/50"},
		{"5", "Cel", "[degF]", differences, "DIFFERENCE in K or [degR]"},
		{"5", "K", "Cel", differences, "DIFFERENCE in K or [degR]"},
		{"3", "[degRe]", "K", differences, "DIFFERENCE in K or [degR]"},
		{"491.67", "[degR]", "Cel", points, "0"},
		{"1", "[degR]", "K", points, "5/9"},
		{"80", "[degRe]", "Cel", points, "100"},
		{"100", "Cel", "[degRe]", points, "80"},
		{"30", "psig", "kPa", points, "UNKNOWN_UNIT needs a reference"},
		{"2", "barg", "kPa", points, "UNKNOWN_UNIT needs a reference"},
		{"0", "[psi]", "kPa", points, "0"},
		{"10", "ug/m3", "[ppb]", points, "DIMENSION density"},
		{"10", "[ppb]", "ug/m3", points, "DIMENSION pure number"},
		{"0.55", "1", "%", points, "55"},
		{"55", "1", "%", points, "5500"},
		{"1", "%", "[ppm]", points, "10000"},
		{"1", "[ppb]", "%", points, "1/10000000"},
		{"1", "ppb", "%", points, "UNKNOWN_UNIT [ppb]"},
	} {
		got := func() string {
			from, err := Lookup(c.from)
			if err != nil {
				return string(codeOf(err)) + " " + err.Error()
			}
			to, err := Lookup(c.to)
			if err != nil {
				return string(codeOf(err)) + " " + err.Error()
			}
			conv, err := c.conv(from, to)
			if err != nil {
				return string(codeOf(err)) + " " + err.Error()
			}
			return must(t, conv.from, conv.to, exactly(c.value)).RatString()
		}()
		code, hint, refused := strings.Cut(c.want, " ")
		if got != c.want && !(refused && strings.HasPrefix(got, code+" ") && strings.Contains(got, hint)) {
			t.Errorf("%s %s -> %s: got %s, want %s", c.value, c.from, c.to, got, c.want)
		}
	}
}

func convert(value, from, to string, conv func(Unit, Unit) (*Conv, error)) string {
	text, err := func() (string, error) {
		f, err := Lookup(from)
		if err != nil {
			return "", err
		}
		u, err := Lookup(to)
		if err != nil {
			return "", err
		}
		c, err := conv(f, u)
		if err != nil {
			return "", err
		}
		return c.Decimal(value)
	}()
	if err != nil {
		return string(codeOf(err))
	}
	return text
}

func TestRound(t *testing.T) {
	for _, c := range []struct {
		x      string
		digits int
		want   string
	}{
		{"2/3", 3, "0.667"}, {"-2/3", 3, "-0.667"}, {"29999/3", 4, "10000"}, {"1/3000", 2, "0.00033"},
		{"2000/3", 1, "700"}, {"1000000/7", 3, "143000"}, {"0", 3, "0"}, {"299999/300000", 3, "1"},
	} {
		if got := round(exactly(c.x), c.digits); got != c.want {
			t.Errorf("%s to %d digits: got %s, want %s", c.x, c.digits, got, c.want)
		}
	}
	for x, want := range map[string]int64{"1/2": 0, "3/2": 2, "5/2": 2, "-1/2": 0, "-3/2": -2, "7/4": 2, "-7/4": -2, "1/3": 0} {
		if got := roundToInt(exactly(x)).Int64(); got != want {
			t.Errorf("%s to an integer: got %d, want %d", x, got, want)
		}
	}
}

// TestConversionsCompose: through a third unit is the same as direct, and back again is identity.
func TestConversionsCompose(t *testing.T) {
	x := exactly("451.3")
	for _, a := range table {
		for _, b := range table {
			if a.kind != b.kind {
				continue
			}
			there := must(t, a, b, x)
			if back := must(t, b, a, there); back.Cmp(x) != 0 {
				t.Errorf("%s -> %s -> %s: got %v, want %v", a.Code, b.Code, a.Code, back, x)
			}
			for _, c := range table {
				if c.kind == a.kind && must(t, b, c, there).Cmp(must(t, a, c, x)) != 0 {
					t.Errorf("%s -> %s through %s differs from direct", a.Code, c.Code, b.Code)
				}
			}
		}
	}
}

func must(t *testing.T, from, to Unit, x *big.Rat) *big.Rat {
	t.Helper()
	c, err := NewConv(from, to)
	if err != nil {
		t.Fatal(err)
	}
	y, err := c.Rat(x)
	if err != nil {
		t.Fatal(err)
	}
	return y
}

func FuzzDecimal(f *testing.F) {
	for _, text := range []string{"212", "-0.5", "1e3", "1E-99", "NaN", ".5", "5.", "12,5", "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		x, err := parseValue(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("an error without a code: %v", err)
			}
			return
		}
		out, exact := formatDecimal(x, DefaultDigits)
		back, err := parseDecimal(out)
		if err != nil {
			if len(out) <= maxDigits {
				t.Errorf("%q was written as %q, which cannot be read: %v", text, out, err)
			}
			return
		}
		if exact && back.Cmp(x) != 0 {
			t.Errorf("%q: got %v, want %v", text, back, x)
		}
	})
}

func BenchmarkFahrenheit(b *testing.B) {
	from, to := table["[degF]"], table["Cel"]
	c, err := NewConv(from, to)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Decimal("72.5"); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseReading(f *testing.F) {
	f.Add([]byte(`{"device":"a","time":"2026-05-01T12:00:00Z","value":98.60,"unit":"[degF]"}`))
	f.Add([]byte(`{"device":"a","time":"2026-05-01T12:00:00Z","value":"98.60","unit":"[degF]","metric":"t"}`))
	f.Add([]byte("\xff"))
	fn := &ConvertFn{Targets: map[string]string{"": "Cel"}, Digits: DefaultDigits}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := ParseReading(raw)
		if err == nil {
			_, err = fn.convert(r)
		}
		if err != nil && codeOf(err) == "" {
			t.Errorf("an error without a code: %v", err)
		}
	})
}

func TestSeriesKeysDoNotCollide(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range []Measurement{{Device: "4|11", Metric: "2"}, {Device: "4", Metric: "11|2"}, {Device: "4", Metric: "112"}, {Device: "41", Metric: "12"}, {Metric: "4"}, {Device: "4"}} {
		key := seriesKey(m)
		if seen[key] {
			t.Errorf("%+v shares a key", m)
		}
		seen[key] = true
		if device, metric, unit := splitKey(key); device != m.Device || metric != m.Metric || unit != m.Unit {
			t.Errorf("got %q, %q, %q, want %+v", device, metric, unit, m)
		}
	}
}
