//go:build !race

package control_test

// modelEvents is how many events TestAgainstAModelOfIPVS plays, over all settings.
const modelEvents = 1_000_000
