"""The parity verdict: does a candidate predict what the reference predicts, on real images?"""
