// SPDX-License-Identifier: Apache-2.0

package units

import (
	"fmt"
	"math/big"
)

type dimension string

const (
	temperature dimension = "temperature"
	pressure    dimension = "pressure"
	ratio       dimension = "pure number"
	length      dimension = "length"
	mass        dimension = "mass"
	duration    dimension = "time"
	speed       dimension = "speed"
	volume      dimension = "volume"
	energy      dimension = "energy"
	power       dimension = "power"
	voltage     dimension = "electric potential"
	current     dimension = "electric current"
	density     dimension = "density"
)

// hints say what may have been meant by what is not a unit.
var hints = map[string]string{
	"F":    "Fahrenheit is [degF]; the farad is not in the table",
	"°F":   "Fahrenheit is [degF]",
	"degF": "Fahrenheit is [degF]",
	"C":    "Celsius is Cel; C is the coulomb",
	"°C":   "Celsius is Cel",
	"degC": "Celsius is Cel",
	"°R":   "Rankine is [degR], Réaumur is [degRe]",
	"R":    "Rankine is [degR]",
	"psi":  "it is [psi]",
	"psig": "a gauge pressure needs a reference; only the absolute pressure is a [psi]",
	"barg": "a gauge pressure needs a reference; only the absolute pressure is a bar",
	"ppm":  "it is [ppm]",
	"ppb":  "it is [ppb]",
	"inHg": "it is [in_i'Hg]",
	"mmHg": "it is mm[Hg]",
	"mph":  "it is [mi_i]/h",
}

// table has all units by code. It is derived, not copied: each figure is a definition or a product
// of definitions.
var table = makeTable()

// exactly is a number written as a fraction or with decimals.
func exactly(text string) *big.Rat {
	x, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(fmt.Sprintf("units: %q in the table is not a number", text))
	}
	return x
}

func times(factors ...*big.Rat) *big.Rat {
	x := big.NewRat(1, 1)
	for _, f := range factors {
		x.Mul(x, f)
	}
	return x
}

func over(a, b *big.Rat) *big.Rat { return new(big.Rat).Quo(a, b) }

var prefixes = map[string]*big.Rat{
	"M": exactly("1000000"), "k": exactly("1000"), "h": exactly("100"), "d": exactly("1/10"), "c": exactly("1/100"),
	"m": exactly("1/1000"), "u": exactly("1/1000000"), "n": exactly("1/1000000000"),
}

func makeTable() map[string]Unit {
	t := map[string]Unit{}
	ratioUnit := func(kind dimension, code string, factor *big.Rat, with string) {
		t[code] = Unit{Code: code, kind: kind, factor: factor}
		for _, p := range with {
			t[string(p)+code] = Unit{Code: string(p) + code, kind: kind, factor: times(prefixes[string(p)], factor)}
		}
	}
	one := exactly("1")

	ratioUnit(temperature, "K", one, "kmu")
	ratioUnit(temperature, "[degR]", exactly("5/9"), "")
	t["Cel"] = Unit{"Cel", temperature, one, exactly("273.15")}
	t["mCel"] = Unit{"mCel", temperature, exactly("1/1000"), exactly("273150")}
	t["[degF]"] = Unit{"[degF]", temperature, exactly("5/9"), exactly("459.67")}
	t["[degRe]"] = Unit{"[degRe]", temperature, exactly("5/4"), times(exactly("273.15"), exactly("4/5"))}

	inch, pound, gravity := exactly("0.0254"), exactly("453.59237"), exactly("9.80665")
	foot := times(inch, exactly("12"))
	mile := times(foot, exactly("5280"))
	hour := exactly("3600")
	ratioUnit(length, "m", one, "kdcmun")
	ratioUnit(length, "[in_i]", inch, "")
	ratioUnit(length, "[ft_i]", foot, "")
	ratioUnit(length, "[mi_i]", mile, "")
	ratioUnit(mass, "g", one, "kmu")
	ratioUnit(mass, "t", exactly("1000000"), "")
	ratioUnit(mass, "[lb_av]", pound, "")
	ratioUnit(mass, "[oz_av]", over(pound, exactly("16")), "")
	ratioUnit(duration, "s", one, "mun")
	ratioUnit(duration, "min", exactly("60"), "")
	ratioUnit(duration, "h", hour, "")
	ratioUnit(duration, "d", exactly("86400"), "")
	ratioUnit(speed, "m/s", one, "kcm")
	ratioUnit(speed, "km/h", over(exactly("1000"), hour), "")
	ratioUnit(speed, "[mi_i]/h", over(mile, hour), "")
	ratioUnit(speed, "[kn_i]", over(exactly("1852"), hour), "")

	ratioUnit(pressure, "Pa", one, "Mkhm")
	ratioUnit(pressure, "bar", exactly("100000"), "m")
	ratioUnit(pressure, "atm", exactly("101325"), "")
	ratioUnit(pressure, "[psi]", over(times(pound, exactly("1/1000"), gravity), times(inch, inch)), "")
	mercury := exactly("133322.387415") // One metre of it, in Pa.
	t["mm[Hg]"] = Unit{"mm[Hg]", pressure, over(mercury, exactly("1000")), nil}
	t["[in_i'Hg]"] = Unit{"[in_i'Hg]", pressure, times(mercury, inch), nil}

	ratioUnit(ratio, "1", one, "")
	ratioUnit(ratio, "%", exactly("1/100"), "")
	ratioUnit(ratio, "[ppth]", exactly("1/1000"), "")
	ratioUnit(ratio, "[ppm]", exactly("1/1000000"), "")
	ratioUnit(ratio, "[ppb]", exactly("1/1000000000"), "")

	ratioUnit(volume, "L", exactly("1/1000"), "mh")
	ratioUnit(volume, "l", exactly("1/1000"), "mh")
	ratioUnit(volume, "m3", one, "")
	ratioUnit(volume, "[gal_us]", times(exactly("231"), inch, inch, inch), "")
	ratioUnit(density, "g/m3", one, "kmu")
	ratioUnit(energy, "J", one, "Mkm")
	ratioUnit(energy, "W.h", hour, "Mk")
	ratioUnit(power, "W", one, "Mkm")
	ratioUnit(voltage, "V", one, "kmu")
	ratioUnit(current, "A", one, "kmu")
	return t
}
