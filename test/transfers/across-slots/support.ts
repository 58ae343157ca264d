import type { Cluster, Redis } from 'ioredis';

/** What transfers across slots have left: decisions with what they live for yet (-1: for ever), and other keys of the library's, operations' markers aside. */
export async function left({
  client,
}: {
  client: Redis | Cluster;
}): Promise<{ decisions: { key: string; ttlMs: number }[]; others: string[] }> {
  const nodes = client.isCluster ? (client as Cluster).nodes('master') : [client as Redis];
  const keys = (await Promise.all(nodes.map((node) => node.keys('atomic:*')))).flat().toSorted();
  const isDecision = (key: string): boolean => key.startsWith('atomic:transfer:');
  const decisions = keys
    .filter(isDecision)
    .map(async (key) => ({ key, ttlMs: await client.pttl(key) }));
  return {
    decisions: await Promise.all(decisions),
    others: keys.filter((key) => !isDecision(key) && !key.startsWith('atomic:operation:')),
  };
}
