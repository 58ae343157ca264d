/**
 * Why one transaction must stand before another: `ww` its version was overwritten by the other's,
 * `wr` its version was read by it, `rw` what it had read was overwritten by it, `realtime` it had
 * been answered before the other began.
 */
export type Dependency = 'ww' | 'wr' | 'rw' | 'realtime';

export interface Edge<Node> {
  readonly from: Node;
  readonly to: Node;
  readonly type: Dependency;
  /** For people. */
  readonly why: string;
}

export interface Cycle<Node> {
  /**
   * The kind of A. Adya's with this cycle, `G0` to `G2`, with `-realtime` where it needs real time.
   */
  readonly kind: string;
  readonly edges: readonly Edge<Node>[];
}

interface Kind {
  readonly name: string;
  readonly path: readonly Dependency[];
  /** Has to be there beside the path. */
  readonly closing?: Dependency;
}

/** The gravest first. A cycle is of the first kind that it fits. */
const KINDS: readonly Kind[] = [
  { name: 'G0', path: ['ww'] },
  { name: 'G1c', path: ['ww', 'wr'] },
  { name: 'G-single', path: ['ww', 'wr'], closing: 'rw' },
  { name: 'G2', path: ['ww', 'wr', 'rw'], closing: 'rw' },
];

/**
 * One cycle, of the gravest kind and as short as can be, of each group of nodes that hang together
 * by cycles.
 */
export function findCycles<Node>(edges: readonly Edge<Node>[]): Cycle<Node>[] {
  const groupOf = stronglyConnected(edges);
  const groups = new Map<number, Edge<Node>[]>();
  for (const edge of edges) {
    const group = groupOf.get(edge.from)!;
    if (group !== groupOf.get(edge.to)) continue;
    const known = groups.get(group);
    if (known) known.push(edge);
    else groups.set(group, [edge]);
  }
  return [...groups.values()].map(gravest);
}

function gravest<Node>(edges: readonly Edge<Node>[]): Cycle<Node> {
  for (const suffix of ['', '-realtime'])
    for (const { name, path, closing } of KINDS) {
      const isOnPath = ({ type }: Edge<Node>): boolean =>
        path.includes(type) || (suffix !== '' && type === 'realtime');
      const paths = edges.filter(isOnPath);
      const found = shortest(closing ? edges.filter(({ type }) => type === closing) : paths, paths);
      if (found) return { kind: name + suffix, edges: found };
    }
  throw new Error('a group of nodes without a cycle');
}

/** The shortest cycle of one of the first edges and any of the others. */
function shortest<Node>(
  closing: readonly Edge<Node>[],
  path: readonly Edge<Node>[],
): readonly Edge<Node>[] | undefined {
  const from = edgesByStart(path);
  let best: readonly Edge<Node>[] | undefined;
  for (const edge of closing) {
    const way = wayFrom(edge.to, edge.from, from, (best?.length ?? Infinity) - 1);
    if (way) best = [edge, ...way];
    if (best?.length === 2) break;
  }
  return best;
}

/** Breadth first; undefined where there is none of fewer edges than `below`. */
function wayFrom<Node>(
  start: Node,
  end: Node,
  from: ReadonlyMap<Node, readonly Edge<Node>[]>,
  below: number,
): readonly Edge<Node>[] | undefined {
  const reachedBy = new Map<Node, Edge<Node> | undefined>([[start, undefined]]);
  let border = [start];
  for (let length = 1; length < below && border.length > 0; length++) {
    const next: Node[] = [];
    for (const node of border)
      for (const edge of from.get(node) ?? []) {
        if (reachedBy.has(edge.to)) continue;
        reachedBy.set(edge.to, edge);
        if (edge.to === end) return wayTo(end, reachedBy);
        next.push(edge.to);
      }
    border = next;
  }
  return undefined;
}

function wayTo<Node>(end: Node, reachedBy: ReadonlyMap<Node, Edge<Node> | undefined>): Edge<Node>[] {
  const way: Edge<Node>[] = [];
  for (let edge = reachedBy.get(end); edge; edge = reachedBy.get(edge.from)) way.unshift(edge);
  return way;
}

function edgesByStart<Node>(edges: readonly Edge<Node>[]): Map<Node, Edge<Node>[]> {
  const result = new Map<Node, Edge<Node>[]>();
  for (const edge of edges) {
    const known = result.get(edge.from);
    if (known) known.push(edge);
    else result.set(edge.from, [edge]);
  }
  return result;
}

/**
 * A number for each node, the same for nodes that reach each other. R. Tarjan, "Depth-First Search
 * and Linear Graph Algorithms" (1972), without recursion.
 */
function stronglyConnected<Node>(edges: readonly Edge<Node>[]): Map<Node, number> {
  const from = edgesByStart(edges);
  const found = new Map<Node, { index: number; low: number; group?: number }>();
  const open: Node[] = [];
  const enter = (node: Node) => {
    found.set(node, { index: found.size, low: found.size });
    open.push(node);
    return { node, edges: (from.get(node) ?? []).values() };
  };
  for (const start of from.keys()) {
    if (found.has(start)) continue;
    const path = [enter(start)];
    while (path.length > 0) {
      const { node, edges: rest } = path.at(-1)!;
      const own = found.get(node)!;
      const { value: edge } = rest.next();
      if (edge) {
        const next = found.get(edge.to);
        if (!next) path.push(enter(edge.to));
        else if (next.group === undefined) own.low = Math.min(own.low, next.index);
        continue;
      }
      path.pop();
      const above = path.at(-1);
      if (above) found.get(above.node)!.low = Math.min(found.get(above.node)!.low, own.low);
      if (own.low !== own.index) continue;
      let last: Node;
      do {
        last = open.pop()!;
        found.get(last)!.group = own.index;
      } while (last !== node);
    }
  }
  return new Map([...found].map(([node, { group }]) => [node, group!]));
}
