// A series primitive that shades the times in which the feed was not there.

const parse = (text) => Date.parse(text) / 1000;

export class FeedGaps {
  bars = [];
  #gaps = [];
  #request = () => {};

  constructor(chart, color) {
    this.chart = chart;
    this.color = color;
  }

  attached({ requestUpdate }) {
    this.#request = requestUpdate;
  }

  set gaps(gaps) {
    this.#gaps = gaps;
    this.#request();
  }

  paneViews() {
    return [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => this.#draw(target) }) }];
  }

  #draw(target) {
    const spans = this.#gaps.map((gap) => this.#span(gap)).filter((span) => span !== null);
    if (!spans.length) return;
    const tone = this.color("warn");
    target.useMediaCoordinateSpace(({ context, mediaSize }) => {
      context.font = "11px system-ui, sans-serif";
      for (const [left, right, kind] of spans) {
        const width = Math.max(right - left, 2);
        context.fillStyle = `${tone}26`;
        context.fillRect(left, 0, width, mediaSize.height);
        context.fillStyle = tone;
        context.fillRect(left, 0, width, 2);
        if (width > 60) context.fillText(`no feed: ${kind}`, left + 4, mediaSize.height - 8);
      }
    });
  }

  #span(gap) {
    const start = this.#place(parse(gap.start));
    const end = this.#place(gap.end === null ? Date.now() / 1000 : parse(gap.end));
    return start === null ? null : [start, end, gap.kind];
  }

  // The axis has a place for each bar and none for times without: a time in a bar lies
  // at its share of the bar's width, one between two bars between them.
  #place(time) {
    if (!this.bars.length) return null;
    let low = 0;
    let high = this.bars.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (parse(this.bars[middle].window_end) <= time) low = middle + 1;
      else high = middle;
    }
    const bar = this.bars[low];
    const share = bar === undefined ? 0
      : (time - parse(bar.window_start)) / (parse(bar.window_end) - parse(bar.window_start));
    // The library knows the places of whole bars only.
    const axis = this.chart.timeScale();
    const middle = axis.logicalToCoordinate(low);
    const width = axis.logicalToCoordinate(low + 1) - middle;
    return middle + (Math.min(1, Math.max(0, share)) - 0.5) * width;
  }
}
