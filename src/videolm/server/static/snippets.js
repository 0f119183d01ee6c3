// A question as a command of the shell and as a Python program, ready to run.

const CURL_UPLOAD = (base, auth) => `# file_id comes from: curl ${base}/v1/files${auth} -F purpose=user_data -F file=@FILE\n`;
const PYTHON_UPLOAD = "# file_id comes from: client.files.create(file=open(FILE, 'rb'), purpose='user_data').id\n";
const KNOWN_TO_OPENAI = new Set(["model", "messages", "max_tokens", "temperature"]);

/**
 * @param {Object} body The request's body, without streaming.
 * @param {{base: string, needsKey: boolean}} server
 */
export function asCurl(body, { base, needsKey }) {
  const auth = needsKey ? ' -H "Authorization: Bearer $VIDEOLM_API_KEY"' : "";
  const json = JSON.stringify(body, null, 2);
  return (
    (hasFile(body) ? CURL_UPLOAD(quoted(base), auth) : "") +
    `curl ${quoted(`${base}/v1/chat/completions`)}${auth} -H 'Content-Type: application/json' -d ${quoted(json)}\n`
  );
}

export function asPython(body, { base, needsKey }) {
  const known = Object.entries(body).filter(([name]) => KNOWN_TO_OPENAI.has(name));
  const own = Object.fromEntries(Object.entries(body).filter(([name]) => !KNOWN_TO_OPENAI.has(name)));
  const lines = known.map(([name, value]) => `    ${name}=${literal(value)},\n`);
  if (Object.keys(own).length) lines.push(`    extra_body=${literal(own)},\n`);
  const key = needsKey ? 'os.environ["VIDEOLM_API_KEY"]' : '"none"';
  return (
    (needsKey ? "import os\n\n" : "") +
    "from openai import OpenAI\n\n" +
    `client = OpenAI(base_url=${literal(`${base}/v1`)}, api_key=${key})\n` +
    (hasFile(body) ? PYTHON_UPLOAD : "") +
    `completion = client.chat.completions.create(\n${lines.join("")})\n` +
    "print(completion.choices[0].message.content)\n"
  );
}

const hasFile = (body) => JSON.stringify(body.messages).includes('"type":"file"');

/** One word of a POSIX shell, whatever it holds. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A value of JSON as Python; its strings and numbers are written alike in both. */
function literal(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}: ${literal(inner)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}
