import { ReplyStream } from '../../lib/testing/fault-replies.js';
import { ArmedFault } from '../../lib/testing/fault-rules.js';
import { FrameReader, readReply, readRequest } from '../../lib/testing/resp-frames.js';

const REPLIES = [
  '+OK\r\n',
  '-ERR no\r\n',
  ':1\r\n',
  '$-1\r\n',
  '$0\r\n\r\n',
  '$6\r\na\r\n$1\r\r\n',
  '*-1\r\n',
  '*0\r\n',
  '*2\r\n*1\r\n$1\r\na\r\n:2\r\n',
  '_\r\n',
  '#t\r\n',
  ',1.5\r\n',
  '(3492890328409238509324850943850943825024385\r\n',
  '!5\r\nERR x\r\n',
  '=7\r\ntxt:a\r\n\r\n',
  '%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n*0\r\n',
  '~2\r\n+a\r\n+b\r\n',
  '|1\r\n+ttl\r\n:5\r\n*2\r\n:1\r\n:2\r\n',
];
const PUSH = '>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n';

describe('RESP frames', () => {
  it.each(['all at once', 'byte by byte'])('replies end at their true end, %s', (way) => {
    const reader = new FrameReader(readReply);
    const stream = Buffer.from([...REPLIES, PUSH].join(''));
    const chunks = way === 'all at once' ? [stream] : Array.from(stream, (byte) => Buffer.from([byte]));
    const frames = chunks.flatMap((chunk) => reader.push(chunk));
    expect(frames.map(({ bytes }) => bytes.toString())).toEqual([...REPLIES, PUSH]);
    expect(frames.map(({ value }) => value)).toEqual([...REPLIES.map(() => 'reply'), 'push']);
  });

  it.each(['all at once', 'byte by byte'])('requests are read byte for byte, %s', (way) => {
    const requests = ['*2\r\n$3\r\nget\r\n$4\r\n\r\n\0\xff\r\n', 'PING\r\n', '*1\r\n$4\r\nEXEC\r\n'];
    const reader = new FrameReader(readRequest);
    const stream = Buffer.from(requests.join(''), 'latin1');
    const chunks = way === 'all at once' ? [stream] : Array.from(stream, (byte) => Buffer.from([byte]));
    const frames = chunks.flatMap((chunk) => reader.push(chunk));
    expect(frames.map(({ bytes }) => bytes.toString('latin1'))).toEqual(requests);
    expect(frames.map(({ value }) => value)).toEqual([
      { name: 'GET', args: [Buffer.from('\r\n\0\xff', 'latin1')] },
      { name: 'PING', args: [] },
      { name: 'EXEC', args: [] },
    ]);
  });

  it.each([
    ['RESP3', PUSH],
    ['RESP2, subscribed', PUSH.replace('>', '*')],
  ])('a message between request and reply is not mistaken for the reply, %s', (_, message) => {
    const seen: string[] = [];
    const fault = new ArmedFault({ kind: 'lose-reply', bytes: 0 }, {});
    const replies = new ReplyStream({
      passesPushes: true,
      toClient: (bytes) => seen.push(bytes.toString()),
      closeClient: () => seen.push('closed'),
      onProgress: () => {},
      whenFlowing: (pass) => pass(),
    });
    replies.awaitPushes();
    replies.await({ keep: 0, closes: fault });
    replies.push(Buffer.from(message));
    expect(seen).toEqual([message]);
    replies.push(Buffer.from('+lost\r\n'));
    expect(seen).toEqual([message, 'closed']);
    expect(replies.idle).toBe(true);
  });
});
