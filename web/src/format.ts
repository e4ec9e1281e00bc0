// Numbers for people.

const units = ['', 'k', 'M', 'G', 'T', 'P'];

/** 1234567 is "1.23 M": three digits, or all of them below 10,000. */
export function short(n: number): string {
  if (n < 10_000) return whole(n);
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000;
    unit++;
  }
  return `${n.toPrecision(3)} ${units[unit]}`.trim();
}

/** 1234567 is "1,234,567". */
export function whole(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}

/** For the axis of a chart: 1500000 is "1.5M". */
export function tick(n: number): string {
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1000;
    unit++;
  }
  return `${+n.toFixed(2)}${units[unit]}`;
}

export function percent(share: number): string {
  const p = 100 * share;
  return `${p > 0 && p < 10 ? p.toFixed(1) : Math.round(p)} %`;
}

/** 93784 seconds are "1 d 2 h"; the two largest units. */
export function span(seconds: number): string {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}
