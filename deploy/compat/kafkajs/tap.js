// Prints how checks end, in the form of the Test Anything Protocol.
const assert = require('node:assert')

const checks = []
exports.assert = assert
exports.check = (name, run) => checks.push({ name, run })

exports.runAll = async () => {
  for (const [i, { name, run }] of checks.entries()) {
    try {
      await run()
      console.log(`ok ${i + 1} - ${name}`)
    } catch (e) {
      console.log(`not ok ${i + 1} - ${name}`)
      for (const line of String(e.stack || e).split('\n')) console.log(`# ${line}`)
    }
  }
}
