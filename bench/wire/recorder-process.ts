import { connect, createServer, type AddressInfo } from 'node:net';
import { commandOf, Frames, isListener, isPush } from './resp.js';

interface Recorded {
  readonly connection: number;
  readonly request: Buffer;
  reply?: Buffer;
}

const recorded: Recorded[] = [];
let connections = 0;

const server = createServer((client) => {
  const connection = connections++;
  const upstream = connect(Number(process.argv[2]), '127.0.0.1');
  const waiting: Recorded[] = [];
  const requests = new Frames();
  const replies = new Frames();
  /** Replies to what only listens come at any time: they cannot be told apart. */
  let listens = false;
  client.setNoDelay(true);
  upstream.setNoDelay(true);
  client.on('data', (chunk) => {
    upstream.write(chunk);
    for (const frame of requests.push(chunk)) {
      listens ||= isListener(commandOf(frame));
      const one = { connection, request: Buffer.from(frame) };
      waiting.push(one);
      recorded.push(one);
    }
  });
  upstream.on('data', (chunk) => {
    client.write(chunk);
    for (const frame of replies.push(chunk)) {
      const one = listens || isPush(frame) ? undefined : waiting.shift();
      if (one) one.reply = Buffer.from(frame);
    }
  });
  for (const [one, other] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
});

server.listen(0, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port));
process.on('message', (asked) => process.send!(asked === 'position' ? recorded.length : recorded));
// It goes when the benchmark goes.
process.on('disconnect', () => process.exit());
