// Progress and rate over time: what the server knows (start and end), and what this page has seen in between.

import { html, nothing, svg } from "./vendor/lit-html/lit-html.js";
import { count, duration, rate, shortTime } from "./format.js";

const WIDTH = 600;
const HEIGHT = 120;
const RATE_HEIGHT = 36;
const MAX_SAMPLES = 400;

// Adds what was seen now; of a long time every second sample is kept, again and again.
export function addSample(samples, batch, now) {
  const { completed, failed } = batch.request_counts;
  const last = samples.at(-1);
  if (last && last.completed === completed && last.failed === failed) {
    return [...samples.slice(0, -1), { ...last, until: now }];
  }
  const grown = [...samples, { at: now, until: now, completed, failed }];
  return grown.length > MAX_SAMPLES ? grown.filter((_, n) => n % 2 || n === grown.length - 1) : grown;
}

export function chart(facts, samples, now) {
  if (facts.startedAt === null || !facts.total) return nothing;
  const end = facts.endedAt ?? now;
  const span = Math.max(1, end - facts.startedAt);
  const x = (at) => (WIDTH * Math.min(Math.max(at - facts.startedAt, 0), span)) / span;
  const y = (n) => HEIGHT - (HEIGHT * n) / facts.total;
  const seen = samples.filter(({ at }) => at >= facts.startedAt && at <= end + 1);
  const known = [{ at: facts.startedAt, done: 0, failed: 0 }, ...seen.flatMap(both), ...lastOf(facts, end)];
  const first = seen[0]?.at ?? end;
  const rates = ratesOf(seen);
  return html`<figure class="chart">
    <figcaption>
      <span>Requests with an outcome</span>
      <span class="faint">${caption(facts, seen)}</span>
    </figcaption>
    <div class="plot">
      <span class="top">${count(facts.total)}</span>
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${described(facts, span)}>
        <path class="grid" d="M0 .5H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 0.5}H${WIDTH}" />
        <path class="area" d="${line(known, x, y)}L${x(known.at(-1).at)} ${HEIGHT}L0 ${HEIGHT}Z" />
        <path class="curve unseen" d=${line(known.filter(({ at }) => at <= first), x, y)} />
        <path class="curve" d=${line(known.filter(({ at }) => at >= first && seen.length), x, y)} />
        ${facts.failed > facts.total / 100 ? svg`<path class="curve lost" d=${line(known.map((p) => ({ ...p, done: p.failed })), x, y)} />` : nothing}
      </svg>
    </div>
    ${rates.length > 1 ? rateStrip(rates, x) : nothing}
    <div class="axis"><span>${shortTime(facts.startedAt)}</span><span>${facts.isOver ? shortTime(end) : "now"}</span></div>
  </figure>`;
}

// A sample that held for a while is two points: the curve is flat in between.
const both = ({ at, until, completed, failed }) =>
  [at, until].map((moment) => ({ at: moment, done: completed + failed, failed }));

const lastOf = (facts, end) => (facts.isOver ? [{ at: end, done: facts.completed + facts.failed, failed: facts.failed }] : []);

const line = (points, x, y) => points.map(({ at, done }, n) => `${n ? "L" : "M"}${x(at).toFixed(1)} ${y(done).toFixed(1)}`).join("");

function ratesOf(seen) {
  return seen.slice(1).map(({ at, completed, failed }, n) => {
    const before = seen[n];
    const done = completed + failed - before.completed - before.failed;
    return { from: before.until, to: at, rate: Math.max(0, done) / Math.max(0.5, at - before.until) };
  });
}

function rateStrip(rates, x) {
  const most = Math.max(...rates.map((part) => part.rate));
  const bars = rates.map(({ from, to, rate: height }) => {
    const tall = most ? (RATE_HEIGHT * height) / most : 0;
    return svg`<rect x=${x(from)} y=${RATE_HEIGHT - tall} width=${Math.max(1, x(to) - x(from))} height=${tall} />`;
  });
  return html`<div class="plot rates">
    <span class="top">${rate(most)} at most</span>
    <svg viewBox="0 0 ${WIDTH} ${RATE_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="Rate while this page looked on, ${rate(most)} at most">
      ${bars}
    </svg>
  </div>`;
}

const caption = (facts, seen) => {
  if (!seen.length) return "Only start and end are known: this page was not open while it ran.";
  if (seen[0].at - facts.startedAt > 5) return "Dashed: before this page was opened.";
  return "As seen by this page.";
};

const described = (facts, span) =>
  `${count(facts.completed)} completed and ${count(facts.failed)} failed of ${count(facts.total)} requests in ${duration(span)}.`;
