//go:build race

package control_test

// modelEvents is how many events TestAgainstAModelOfIPVS plays, over all settings. The race detector makes each twenty times as long.
const modelEvents = 20_000
